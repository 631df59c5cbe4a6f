// SamplingParams in a Cap'n Proto message. Included by codecs (.cpp) only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "actors/serving/serving.capnp.h"
#include "model/sampler.hpp"

namespace consort::actors {

inline void write_sampling(wire::Sampling::Builder to, const model::SamplingParams& recipe) {
  to.setTemperature(recipe.temperature);
  to.setTopP(recipe.top_p);
  to.setMinP(recipe.min_p);
  to.setTopK(recipe.top_k);
  to.setTopLogprobs(recipe.top_logprobs);
  to.setSeed(recipe.seed);
}

inline model::SamplingParams read_sampling(wire::Sampling::Reader from) {
  model::SamplingParams recipe;
  recipe.temperature = from.getTemperature();
  recipe.top_p = from.getTopP();
  recipe.min_p = from.getMinP();
  recipe.top_k = from.getTopK();
  recipe.top_logprobs = from.getTopLogprobs();
  recipe.seed = from.getSeed();
  return recipe;
}

}  // namespace consort::actors
