#include <boost/json.hpp>

#include <algorithm>
#include <cstring>
#include <limits>

#include "model/json_text.hpp"
#include "model/safetensors.hpp"

namespace consort::model {
namespace {

namespace json = boost::json;
using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the limit that the safetensors format itself sets
constexpr std::size_t kMaxTensorRank = 8;               // checkpoints of this family have 1 and 2

bool read_u64(const json::value& value, std::uint64_t& out) {
  if (value.is_uint64()) {
    out = value.get_uint64();
    return true;
  }
  if (!value.is_int64() || value.get_int64() < 0) return false;
  out = static_cast<std::uint64_t>(value.get_int64());
  return true;
}

// Bytes of a tensor of this shape; false where the product overflows.
bool tensor_bytes(const TensorEntry& entry, std::uint64_t& bytes) {
  bytes = static_cast<std::uint64_t>(runtime::dtype_bytes(entry.dtype));
  for (const std::int64_t d : entry.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(d), &bytes)) return false;
  }
  return bytes <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
}

Outcome<TensorEntry> read_entry(const std::string& name, const json::value& value, std::uint64_t data_bytes,
                                const std::string& where) {
  const auto bad = [&](const std::string& what) {
    return failure(ErrorKind::kInvalid, where + ": tensor '" + name + "' " + what);
  };
  if (!value.is_object()) return bad("is not described by an object");
  const json::object& object = value.get_object();
  const json::value* dtype = object.if_contains("dtype");
  const json::value* shape = object.if_contains("shape");
  const json::value* offsets = object.if_contains("data_offsets");
  if (dtype == nullptr || shape == nullptr || offsets == nullptr) return bad("lacks dtype, shape or data_offsets");
  if (object.size() != 3) return bad("has a key other than dtype, shape and data_offsets");
  if (!dtype->is_string() || !shape->is_array() || !offsets->is_array() || offsets->get_array().size() != 2)
    return bad("has dtype, shape or data_offsets of the wrong type");

  TensorEntry entry;
  entry.name = name;
  auto known = runtime::dtype_from_name(std::string_view(dtype->get_string().data(), dtype->get_string().size()));
  if (!known.ok()) return bad("has dtype " + json::serialize(*dtype) + ", which is not supported");
  entry.dtype = known.value();
  if (shape->get_array().size() > kMaxTensorRank) return bad("has too many dimensions");
  for (const json::value& d : shape->get_array()) {
    std::uint64_t size = 0;
    if (!read_u64(d, size) || size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
      return bad("has the dimension " + json::serialize(d));
    entry.shape.push_back(static_cast<std::int64_t>(size));
  }
  if (!read_u64(offsets->get_array()[0], entry.begin) || !read_u64(offsets->get_array()[1], entry.end))
    return bad("has data_offsets " + json::serialize(*offsets));
  if (entry.begin > entry.end || entry.end > data_bytes)
    return bad("lies at data_offsets " + json::serialize(*offsets) + ", outside the " + std::to_string(data_bytes) +
               " bytes of data: the file is damaged or was not copied whole");
  std::uint64_t bytes = 0;
  if (!tensor_bytes(entry, bytes)) return bad("has a shape whose size overflows");
  if (bytes != entry.end - entry.begin)
    return bad("takes " + std::to_string(entry.end - entry.begin) + " bytes, but its dtype and shape need " +
               std::to_string(bytes));
  return entry;
}

Status read_metadata(const json::value& value, std::map<std::string, std::string>& out, const std::string& where) {
  if (!value.is_object()) return failure(ErrorKind::kInvalid, where + ": __metadata__ is not an object");
  for (const auto& [key, text] : value.get_object()) {
    if (!text.is_string()) return failure(ErrorKind::kInvalid, where + ": __metadata__ has a value that is no string");
    out.emplace(std::string(key.data(), key.size()), std::string(text.get_string().data(), text.get_string().size()));
  }
  return runtime::done();
}

Status check_tiling(const std::vector<TensorEntry>& sorted, std::uint64_t data_bytes, const std::string& where) {
  std::uint64_t at = 0;
  for (const TensorEntry& entry : sorted) {
    if (entry.begin != at)
      return failure(ErrorKind::kInvalid, where + ": tensor '" + entry.name + "' begins at byte " +
                                              std::to_string(entry.begin) +
                                              (entry.begin < at ? ", inside" : ", after a gap behind") +
                                              " the tensor before it, which ends at " + std::to_string(at));
    at = entry.end;
  }
  if (at != data_bytes)
    return failure(ErrorKind::kInvalid,
                   where + ": " + std::to_string(data_bytes - at) + " bytes at the end belong to no tensor");
  return runtime::done();
}

}  // namespace

Outcome<std::uint64_t> safetensors_header_bytes(std::span<const std::byte> first8, std::uint64_t file_bytes,
                                                std::string_view where) {
  if (first8.size() < 8 || file_bytes < 8)
    return failure(ErrorKind::kInvalid, std::string(where) + ": too short for a safetensors file");
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < 8; ++i) bytes |= static_cast<std::uint64_t>(first8[i]) << (8 * i);
  if (bytes > kMaxHeaderBytes)
    return failure(ErrorKind::kInvalid, std::string(where) + ": announces a header of " + std::to_string(bytes) +
                                            " bytes; at most " + std::to_string(kMaxHeaderBytes) + " are allowed");
  if (bytes > file_bytes - 8)
    return failure(ErrorKind::kInvalid, std::string(where) + ": announces a header of " + std::to_string(bytes) +
                                            " bytes, but the file ends before");
  return bytes;
}

Outcome<SafetensorsHeader> parse_safetensors_header(std::span<const std::byte> start, std::uint64_t file_bytes,
                                                    std::string_view where_view) {
  const std::string where(where_view);
  std::uint64_t header_bytes = 0;
  CONSORT_TRY(header_bytes, safetensors_header_bytes(start, file_bytes, where));
  if (start.size() - 8 < header_bytes) return failure(ErrorKind::kInvalid, where + ": the header is not whole");
  const std::string_view text(reinterpret_cast<const char*>(start.data()) + 8, static_cast<std::size_t>(header_bytes));
  CONSORT_RETURN_IF_ERROR(check_json(text, where));
  json::error_code code;
  const json::value root = json::parse(json::string_view(text.data(), text.size()), code);
  if (code || !root.is_object()) return failure(ErrorKind::kInvalid, where + ": the header is not a JSON object");

  SafetensorsHeader header;
  header.data_offset = 8 + header_bytes;
  const std::uint64_t data_bytes = file_bytes - header.data_offset;
  for (const auto& [key, value] : root.get_object()) {
    const std::string name(key.data(), key.size());
    if (name == "__metadata__") {
      CONSORT_RETURN_IF_ERROR(read_metadata(value, header.metadata, where));
      continue;
    }
    TensorEntry entry;
    CONSORT_TRY(entry, read_entry(name, value, data_bytes, where));
    header.tensors.push_back(std::move(entry));
  }
  // An empty tensor has no bytes, so it may share its place: by end too, so that it comes before its
  // neighbour.
  std::sort(header.tensors.begin(), header.tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end != b.end ? a.end < b.end : a.name < b.name;
  });
  CONSORT_RETURN_IF_ERROR(check_tiling(header.tensors, data_bytes, where));
  return header;
}

}  // namespace consort::model
