// Threads of XLA's that have just helped and look out for more: to wake one takes longer than small work does.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace lamina {

using Clock = std::chrono::steady_clock;

// How long threads look out after work that took up to so long; and after other work, just as long as XLA takes from one kernel
// to the next, as its own operations want the thread then.
constexpr Clock::duration SMALL_WORK = std::chrono::microseconds(200);
constexpr Clock::duration LOOK_OUT = std::chrono::microseconds(100), SHORT_LOOK_OUT = std::chrono::microseconds(25);
// Asked for again within this time, a thread is worth being awake. It is longer than small work takes one thread alone, or a
// thread that was held up once would never help again.
constexpr Clock::duration SOON = std::chrono::microseconds(400);

// Between two looks at what another thread has yet to do: a moment at first, later this thread's turn.
inline void rest(int64_t looks) {
  if (looks % 256 == 0) return std::this_thread::yield();
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

class Watch {
 public:
  // Tells how long to look out for another one afterwards.
  using Task = std::function<Clock::duration()>;

  static Watch& the() {
    static auto* watch = new Watch;  // never destroyed, as threads may still look at it when the process ends
    return *watch;
  }

  // Hands a task to a thread on watch, which may have another one to do first; false if there is none for it.
  bool hand(const Task& task) {
    if (on_watch_.load() == 0) return false;
    std::lock_guard<std::mutex> lock(mutex_);
    if (static_cast<int64_t>(tasks_.size()) >= on_watch_.load()) return false;
    tasks_.push_back(task);
    count_.store(tasks_.size());
    return true;
  }

  // Looks out for tasks and does them, until there was none for so long. No more than `most` threads do.
  void look_out(int64_t most, Clock::duration time) {
    if (on_watch_.fetch_add(1) < most)
      while (time.count() > 0) time = do_next(time);
    on_watch_.fetch_sub(1);
  }

  // Whether it was asked a moment ago already.
  bool asked_again() {
    int64_t now = Clock::now().time_since_epoch().count(), before = asked_.exchange(now);
    return now - before < SOON.count();
  }

 private:
  Clock::duration do_next(Clock::duration time) {
    auto end = Clock::now() + time;
    for (int64_t looks = 1; count_.load() == 0 && (looks % 16 || Clock::now() < end); looks++) rest(looks);
    Task task;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (tasks_.empty()) return {};
      task = std::move(tasks_.back());
      tasks_.pop_back();
      count_.store(tasks_.size());
    }
    return task();
  }

  std::mutex mutex_;
  std::vector<Task> tasks_;
  std::atomic<int64_t> on_watch_{0}, count_{0}, asked_{0};
};

}  // namespace lamina
