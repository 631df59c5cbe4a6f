#include "runtime/dead_letters.hpp"

namespace consort::runtime {

void DeadLetters::note(DeadLetter letter) {
  ++counts_[static_cast<std::size_t>(letter.reason)];
  if (ring_.size() < kKept) {
    ring_.push_back(letter);
    return;
  }
  ring_[next_] = letter;
  next_ = (next_ + 1) % kKept;
}

std::vector<DeadLetter> DeadLetters::recent() const {
  std::vector<DeadLetter> letters;
  letters.reserve(ring_.size());
  for (std::size_t i = 0; i < ring_.size(); ++i) letters.push_back(ring_[(next_ + i) % ring_.size()]);
  return letters;
}

}  // namespace consort::runtime
