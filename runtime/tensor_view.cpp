#include "runtime/tensor_view.hpp"

namespace consort::runtime {

std::int64_t dtype_bytes(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return 4;
    case Dtype::kF16:
      return 2;
    case Dtype::kBf16:
      return 2;
    case Dtype::kF8E4m3:
      return 1;
    case Dtype::kI64:
      return 8;
    case Dtype::kI32:
      return 4;
    case Dtype::kU8:
      return 1;
  }
  CONSORT_CHECK(false, static_cast<int>(dtype));
  return 0;
}

std::string_view name(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return "F32";
    case Dtype::kF16:
      return "F16";
    case Dtype::kBf16:
      return "BF16";
    case Dtype::kF8E4m3:
      return "F8_E4M3";
    case Dtype::kI64:
      return "I64";
    case Dtype::kI32:
      return "I32";
    case Dtype::kU8:
      return "U8";
  }
  return "unknown";
}

Outcome<Dtype> dtype_from_name(std::string_view text) {
  for (auto dtype : {Dtype::kF32, Dtype::kF16, Dtype::kBf16, Dtype::kF8E4m3, Dtype::kI64, Dtype::kI32, Dtype::kU8}) {
    if (name(dtype) == text) return dtype;
  }
  return failure(ErrorKind::kInvalid, "unknown dtype '" + std::string(text) + "'");
}

std::string describe(const ConstTensorView& view) {
  std::string text(name(view.dtype()));
  text += " [";
  for (int i = 0; i < view.rank(); ++i) text += (i ? ", " : "") + std::to_string(view.dim(i));
  return text + "]";
}

}  // namespace consort::runtime
