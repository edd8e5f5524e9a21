// Memory to work in.
#pragma once

#include <cstdint>
#include <vector>

#include "vector.h"

namespace lamina {

// Numbers of this thread, handed out in pieces that begin at whole vectors. The memory is kept, as fresh memory is
// slow: the thread's next Scratch hands out the same, but for one that is shared with threads that help.
class Scratch {
 public:
  explicit Scratch(int64_t size, bool shared = false) {
    thread_local std::vector<float> memories[2];
    std::vector<float>& memory = memories[shared];
    constexpr int64_t SLACK = 16 * LANES;  // for the beginnings of that many pieces
    if (static_cast<int64_t>(memory.size()) < size + SLACK) memory.resize(size + SLACK);
    next_ = memory.data();
  }

  float* take(int64_t size) {
    constexpr uintptr_t BYTES = LANES * sizeof(float);
    auto begin = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(next_) + BYTES - 1) / BYTES * BYTES);
    next_ = begin + size;
    return begin;
  }

 private:
  float* next_;
};

}  // namespace lamina
