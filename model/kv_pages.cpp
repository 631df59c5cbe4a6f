#include "model/kv_pages.hpp"

#include "kernels/attention.hpp"

namespace consort::model {

static_assert(kPagePositions == kernels::kPagePositions, "the ledger and the kernel must count alike");

KvPages::KvPages(const ModelConfig& config, std::int64_t layer_count, std::int64_t page_count)
    : layer_count_(layer_count), page_count_(page_count), width_(config.latent_width()) {
  const auto floats = static_cast<std::size_t>(layer_count * page_count * kPagePositions * width_);
  auto* data = static_cast<float*>(std::calloc(floats > 0 ? floats : 1, sizeof(float)));
  CONSORT_CHECK(data != nullptr, "out of memory for KV pages:", floats * sizeof(float));
  data_.reset(data);
}

}  // namespace consort::model
