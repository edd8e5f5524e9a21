// How kernels are offered to XLA, and how they share their work among its threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "watch.h"
#include "xla/ffi/api/ffi.h"

namespace lamina {

namespace ffi = xla::ffi;

using Floats = ffi::Buffer<ffi::F32>;
using FloatsOut = ffi::Result<ffi::Buffer<ffi::F32>>;
using Numbers = ffi::Buffer<ffi::S32>;
using Booleans = ffi::Buffer<ffi::PRED>;
using Integers = ffi::Span<const int64_t>;

// Null where a buffer is empty: where something is not given, or not wanted.
template <class Buffer>
auto values_or_null(const Buffer& x) {
  return x.element_count() ? x.typed_data() : nullptr;
}

// The handlers of this library, which lamina/native/__init__.py registers with JAX.
struct Handler {
  const char* name;
  void* function;
};

inline std::vector<Handler>& handlers() {
  static std::vector<Handler> all;
  return all;
}

// Offers FUNCTION under NAME, on some processors only; what follows says how XLA's call becomes its arguments.
#define LAMINA_HANDLER_IF(CONDITION, NAME, FUNCTION, BINDING) \
  XLA_FFI_DEFINE_HANDLER(NAME##_handler, FUNCTION, BINDING);  \
  static const bool NAME##_offered =                          \
      (CONDITION) && (lamina::handlers().push_back({#NAME, reinterpret_cast<void*>(NAME##_handler)}), true)
#define LAMINA_HANDLER(NAME, FUNCTION, BINDING) LAMINA_HANDLER_IF(true, NAME, FUNCTION, BINDING)

// Runs body(phase, part) for each phase in [0, phases) and part in [0, parts) on XLA's threads and on this one, a phase
// when the one before it is done; threads stay awake in between. This one takes part, so that it never waits for helpers that
// do not start: it may itself be the last free thread of the pool. It takes parts from the front and helpers from the back, so
// that each has what it read the last time in its own cache. No more than `threads` take part, if given. With `awake`, for work
// that is mostly done before a thread is awake, only those help that look out for it, unless it is asked for again and again.
inline void parallel_phases(ffi::ThreadPool& pool, int64_t phases, int64_t parts,
                            const std::function<void(int64_t, int64_t)>& body, int64_t threads = 1 << 20,
                            bool awake = false) {
  threads = std::min({threads, pool.num_threads(), parts});
  if (threads <= 1) {
    for (int64_t i = 0; i < phases * parts; i++) body(i / parts, i % parts);
    return;
  }
  struct Job {
    int64_t phases, parts;
    const std::function<void(int64_t, int64_t)>* body;  // read only while a part is not done, when the caller still waits
    std::vector<std::atomic<uint64_t>> taken;           // of each phase: from the front in the low half, from the back above
    Clock::time_point begun = Clock::now();
    std::atomic<int64_t> done{0};
    void wait(int64_t before) {
      for (int64_t looks = 1; done.load() < before; looks++) rest(looks);
    }
    void work(bool helps) {
      for (int64_t phase = 0; phase < phases; phase++)
        for (;;) {
          uint64_t before = taken[phase].fetch_add(helps ? uint64_t{1} << 32 : 1);
          int64_t front = before & 0xffffffff, back = before >> 32;
          if (front + back >= parts) break;
          wait(phase * parts);
          (*body)(phase, helps ? parts - 1 - back : front);
          done.fetch_add(1);
        }
    }
  };
  std::shared_ptr<Job> job(new Job{phases, parts, &body, std::vector<std::atomic<uint64_t>>(phases)});
  auto help = [job] {
    job->work(true);
    return Clock::now() - job->begun < SMALL_WORK ? LOOK_OUT : SHORT_LOOK_OUT;
  };
  Watch& watch = Watch::the();
  bool wake = !awake || watch.asked_again();
  for (int64_t i = 1; i < threads; i++) {
    if (watch.hand(help) || !wake) continue;
    pool.Schedule([help, &watch, threads] { watch.look_out(threads - 1, help()); });
  }
  job->work(false);
  job->wait(phases * parts);
}

// Runs body(i) for each i in [0, count), in the same way.
inline void parallel_for(ffi::ThreadPool& pool, int64_t count, const std::function<void(int64_t)>& body,
                         int64_t threads = 1 << 20, bool awake = false) {
  parallel_phases(pool, 1, count, [&](int64_t, int64_t i) { body(i); }, threads, awake);
}

// How many partial sums a kernel's gradient has, whatever the number of threads, so that its bytes do not depend on it.
constexpr int64_t PARTS = 4;

// Where part `part` of `parts` of `count` things begins.
inline int64_t share(int64_t count, int64_t part, int64_t parts) { return count * part / parts; }

}  // namespace lamina
