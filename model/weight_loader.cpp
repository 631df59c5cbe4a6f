#include "model/weight_loader.hpp"

#include <cstdlib>

#include "kernels/vector.hpp"

namespace consort::model {
namespace {

using kernels::kScaleBlock;
using runtime::Dtype;
using runtime::Outcome;
using runtime::Status;

constexpr std::size_t kAlignment = 64;  // one AVX-512 register, one cache line

Rectangle whole(const TensorEntry& entry) {
  if (entry.shape.size() == 1) return {0, 1, 0, entry.shape[0]};
  return {0, entry.shape[0], 0, entry.shape[1]};
}

// The blocks of scales that a rectangle touches.
Rectangle scale_blocks(Rectangle cut) {
  const std::int64_t row = cut.first_row / kScaleBlock, col = cut.first_col / kScaleBlock;
  return {row, (cut.first_row + cut.rows + kScaleBlock - 1) / kScaleBlock - row, col,
          (cut.first_col + cut.cols + kScaleBlock - 1) / kScaleBlock - col};
}

// Reads a rectangle row by row, or at once where its rows lie together.
Status read_rectangle(const Checkpoint& checkpoint, const std::string& name, const TensorEntry& entry, Rectangle cut,
                      std::span<std::byte> out) {
  const Rectangle all = whole(entry);
  const std::int64_t width = runtime::dtype_bytes(entry.dtype);
  CONSORT_CHECK(cut.first_row >= 0 && cut.rows >= 0 && cut.first_row + cut.rows <= all.rows, name, cut.first_row,
                cut.rows);
  CONSORT_CHECK(cut.first_col >= 0 && cut.cols >= 0 && cut.first_col + cut.cols <= all.cols, name, cut.first_col,
                cut.cols);
  const auto offset = [&](std::int64_t row) {
    return static_cast<std::uint64_t>((row * all.cols + cut.first_col) * width);
  };
  if (cut.cols == all.cols) return checkpoint.read(name, offset(cut.first_row), out);
  const auto row_bytes = static_cast<std::size_t>(cut.cols * width);
  for (std::int64_t r = 0; r < cut.rows; ++r)
    CONSORT_RETURN_IF_ERROR(checkpoint.read(name, offset(cut.first_row + r),
                                            out.subspan(static_cast<std::size_t>(r) * row_bytes, row_bytes)));
  return runtime::done();
}

}  // namespace

WeightMemory::WeightMemory(std::uint64_t bytes) : bytes_(bytes) {
  const std::size_t rounded = (static_cast<std::size_t>(bytes) + kAlignment) / kAlignment * kAlignment;
  auto* data = static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded));
  CONSORT_CHECK(data != nullptr, "out of memory for weights:", bytes);
  data_.reset(data);
}

void WeightMemory::Free::operator()(std::byte* data) const { std::free(data); }

Outcome<OwnedWeight> load_weight(const Checkpoint& checkpoint, const std::string& name, Rectangle cut) {
  const TensorEntry* entry = checkpoint.find(name);
  CONSORT_CHECK(entry != nullptr, name);
  OwnedWeight weight;
  weight.memory = WeightMemory(static_cast<std::uint64_t>(cut.rows * cut.cols * runtime::dtype_bytes(entry->dtype)));
  CONSORT_RETURN_IF_ERROR(read_rectangle(checkpoint, name, *entry, cut, weight.memory.bytes()));
  kernels::WeightMatrix& m = weight.matrix;
  m.data = weight.memory.bytes().data();
  m.dtype = entry->dtype;
  m.rows = cut.rows;
  m.cols = cut.cols;
  m.row_stride = cut.cols;
  if (entry->dtype != Dtype::kF8E4m3) return weight;

  // Only the touched blocks are held, so positions are counted from the first of them; the scale of an
  // element stays the one of its absolute row and column.
  const std::string scale_name = name + "_scale_inv";
  const Rectangle blocks = scale_blocks(cut);
  weight.scale.resize(static_cast<std::size_t>(blocks.rows * blocks.cols));
  CONSORT_RETURN_IF_ERROR(read_rectangle(checkpoint, scale_name, *checkpoint.find(scale_name), blocks,
                                         std::as_writable_bytes(std::span(weight.scale))));
  m.scale_inv = weight.scale.data();
  m.scale_stride = blocks.cols;
  m.row_origin = cut.first_row % kScaleBlock;
  m.col_origin = cut.first_col % kScaleBlock;
  return weight;
}

Outcome<OwnedWeight> load_weight(const Checkpoint& checkpoint, const std::string& name) {
  const TensorEntry* entry = checkpoint.find(name);
  CONSORT_CHECK(entry != nullptr, name);
  return load_weight(checkpoint, name, whole(*entry));
}

Outcome<std::vector<float>> load_vector(const Checkpoint& checkpoint, const std::string& name) {
  OwnedWeight weight;
  CONSORT_TRY(weight, load_weight(checkpoint, name));
  CONSORT_CHECK(weight.matrix.rows == 1, name);
  std::vector<float> values(static_cast<std::size_t>(weight.matrix.cols));
  kernels::expand_row(values, weight.matrix, 0);
  return values;
}

Outcome<FfnWeights> load_ffn(const Checkpoint& checkpoint, const std::string& prefix, ColumnRange columns) {
  const std::int64_t hidden = checkpoint.config().hidden_size;
  const std::int64_t first = columns.first, count = columns.count;
  FfnWeights ffn;
  CONSORT_TRY(ffn.gate, load_weight(checkpoint, prefix + "gate_proj.weight", {first, count, 0, hidden}));
  CONSORT_TRY(ffn.up, load_weight(checkpoint, prefix + "up_proj.weight", {first, count, 0, hidden}));
  CONSORT_TRY(ffn.down, load_weight(checkpoint, prefix + "down_proj.weight", {0, hidden, first, count}));
  return ffn;
}

std::uint64_t stored_bytes(const Checkpoint& checkpoint, const std::string& name, Rectangle cut) {
  const TensorEntry* entry = checkpoint.find(name);
  CONSORT_CHECK(entry != nullptr, name);
  std::int64_t bytes = cut.rows * cut.cols * runtime::dtype_bytes(entry->dtype);
  if (entry->dtype == Dtype::kF8E4m3) {
    const Rectangle blocks = scale_blocks(cut);
    bytes += blocks.rows * blocks.cols * 4;
  }
  return static_cast<std::uint64_t>(bytes);
}

std::uint64_t stored_bytes(const Checkpoint& checkpoint, const std::string& name) {
  const TensorEntry* entry = checkpoint.find(name);
  CONSORT_CHECK(entry != nullptr, name);
  return stored_bytes(checkpoint, name, whole(*entry));
}

}  // namespace consort::model
