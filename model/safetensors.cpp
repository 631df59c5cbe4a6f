#include "model/safetensors.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "model/digest.hpp"

namespace consort::model {
namespace {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

constexpr std::uint64_t kSampleCount =
    16;  // places that digest() looks at: enough to notice other weights of one shape,
constexpr std::uint64_t kSampleBytes = 64;  // and 1 KiB in all, so that joining with 163 shards stays free

std::string system_error() { return std::strerror(errno); }

}  // namespace

Outcome<std::unique_ptr<const SafetensorsFile>> SafetensorsFile::open(const std::filesystem::path& path,
                                                                      std::shared_ptr<ReadCounter> counter) {
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile);
  file->path_ = path.string();
  file->counter_ = std::move(counter);
  file->descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file->descriptor_ < 0) return failure(ErrorKind::kInvalid, "cannot open " + file->path_ + ": " + system_error());
  struct stat status {};
  if (::fstat(file->descriptor_, &status) != 0 || !S_ISREG(status.st_mode))
    return failure(ErrorKind::kInvalid, file->path_ + " is not a regular file");
  const auto file_bytes = static_cast<std::uint64_t>(status.st_size);

  std::vector<std::byte> start(8);
  if (file_bytes < 8) return failure(ErrorKind::kInvalid, file->path_ + ": too short for a safetensors file");
  CONSORT_RETURN_IF_ERROR(file->pread_all(0, start));
  std::uint64_t header_bytes = 0;
  CONSORT_TRY(header_bytes, safetensors_header_bytes(start, file_bytes, file->path_));
  start.resize(static_cast<std::size_t>(8 + header_bytes));
  CONSORT_RETURN_IF_ERROR(file->pread_all(8, std::span(start).subspan(8)));
  CONSORT_TRY(file->header_, parse_safetensors_header(start, file_bytes, file->path_));

  Digest digest;
  digest.add(start);
  const std::uint64_t data_bytes = file_bytes - start.size();
  if (data_bytes >= kSampleBytes) {
    std::vector<std::byte> sample(kSampleBytes);
    for (std::uint64_t i = 0; i < kSampleCount; ++i) {
      CONSORT_RETURN_IF_ERROR(
          file->pread_all(start.size() + (data_bytes - kSampleBytes) / (kSampleCount - 1) * i, sample));
      digest.add(sample);
    }
  }
  file->digest_ = digest.value();
  file->counter_->header_bytes += start.size() + (data_bytes >= kSampleBytes ? kSampleCount * kSampleBytes : 0);
  for (std::size_t i = 0; i < file->header_.tensors.size(); ++i)
    file->by_name_.emplace(file->header_.tensors[i].name, i);
  return std::unique_ptr<const SafetensorsFile>(std::move(file));
}

SafetensorsFile::~SafetensorsFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

const TensorEntry* SafetensorsFile::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &header_.tensors[found->second];
}

Status SafetensorsFile::read(const TensorEntry& entry, std::uint64_t offset, std::span<std::byte> out,
                             ReadCounter* counter) const {
  CONSORT_CHECK(offset <= entry.end - entry.begin && out.size() <= entry.end - entry.begin - offset, entry.name, offset,
                out.size());
  CONSORT_RETURN_IF_ERROR(pread_all(header_.data_offset + entry.begin + offset, out));
  (counter != nullptr ? counter : counter_.get())->data_bytes += out.size();
  return runtime::done();
}

Status SafetensorsFile::pread_all(std::uint64_t position, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t got = ::pread(descriptor_, out.data(), out.size(), static_cast<off_t>(position));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(ErrorKind::kInvalid, "cannot read " + path_ + ": " + system_error());
    if (got == 0) return failure(ErrorKind::kInvalid, path_ + " became shorter while it was read");
    out = out.subspan(static_cast<std::size_t>(got));
    position += static_cast<std::uint64_t>(got);
  }
  return runtime::done();
}

Status write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                         const std::map<std::string, std::string>& metadata) {
  namespace json = boost::json;
  json::object root;
  if (!metadata.empty()) {
    json::object object;
    for (const auto& [key, value] : metadata) object[key] = value;
    root["__metadata__"] = std::move(object);
  }
  std::uint64_t at = 0;
  for (const NamedTensor& tensor : tensors) {
    json::array shape;
    for (int i = 0; i < tensor.view.rank(); ++i) shape.push_back(tensor.view.dim(i));
    const std::uint64_t end = at + static_cast<std::uint64_t>(tensor.view.size_bytes());
    const std::string_view dtype = runtime::name(tensor.view.dtype());
    root[tensor.name] = {{"dtype", json::string_view(dtype.data(), dtype.size())},
                         {"shape", std::move(shape)},
                         {"data_offsets", {at, end}}};
    at = end;
  }
  std::string header = json::serialize(root);
  header.resize((header.size() + 7) / 8 * 8, ' ');  // data starts aligned

  const std::filesystem::path unfinished = path.string() + ".unfinished";
  std::FILE* file = std::fopen(unfinished.c_str(), "wb");
  if (file == nullptr)
    return failure(ErrorKind::kInvalid, "cannot write " + unfinished.string() + ": " + system_error());
  bool whole = true;
  const auto put = [&](const void* data, std::size_t bytes) {
    whole = whole && (bytes == 0 || std::fwrite(data, 1, bytes, file) == bytes);
  };
  unsigned char length[8];
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<unsigned char>(header.size() >> (8 * i));
  put(length, 8);
  put(header.data(), header.size());
  for (const NamedTensor& tensor : tensors) {
    const auto& view = tensor.view;
    const std::int64_t width = runtime::dtype_bytes(view.dtype());
    for (std::int64_t r = 0; r < view.rows(); ++r)
      put(view.bytes() + r * view.row_stride() * width, static_cast<std::size_t>(view.cols() * width));
  }
  whole = std::fclose(file) == 0 && whole;
  if (!whole || std::rename(unfinished.c_str(), path.c_str()) != 0) {
    const std::string why = system_error();
    std::remove(unfinished.c_str());
    return failure(ErrorKind::kInvalid, "cannot write " + path.string() + ": " + why);
  }
  return runtime::done();
}

}  // namespace consort::model
