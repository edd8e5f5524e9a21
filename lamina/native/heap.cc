// The heap between two runs of a long program, as glibc keeps it.

#include <cstdlib>

#ifdef __GLIBC__
#include <malloc.h>

namespace {

// XLA's memory begins a line of the cache.
constexpr size_t LINE = 64;
// A piece that glibc does not take from its stores of small ones.
constexpr size_t LARGE = 4096;

// Lets glibc join what it stored for a short while, and sort what was freed last: it would be cut up for the next small pieces.
void sort_free_pieces() {
  void* volatile large = std::malloc(LARGE);  // volatile, or the compiler would leave this out
  std::free(large);
}

// Makes free memory whole where small pieces stand between: where an aligned block was, what its alignment left over lies
// before and behind, in a store of small pieces that are never joined with their neighbours. The next block of the same
// size then does not fit there. The store takes seven pieces of a size; here others take their place, and those that it
// held are freed past it.
void join_free_pieces() {
  constexpr size_t SMALLEST = 24, LARGEST = 120, STEP = 16;  // what alignment can leave over
  constexpr int STORED = 7, MOST = 64;
  sort_free_pieces();
  for (size_t size = SMALLEST; size <= LARGEST; size += STEP) {
    void* pieces[MOST];  // first those of the store, then others; some are larger, and belong to the store of their own size
    int count = 0;
    for (int fitting = 0; count < MOST && fitting < 2 * STORED; count++) {
      pieces[count] = std::malloc(size);
      fitting += malloc_usable_size(pieces[count]) == size;
    }
    while (count > 0) std::free(pieces[--count]);
  }
}

}  // namespace
#endif

// Where so many bytes would lie that a program works in: that of its last run, unless a piece that is kept lies there by now.
// Nothing is written to them.
extern "C" __attribute__((visibility("default"))) void* lamina_place_of([[maybe_unused]] size_t size) {
#ifdef __GLIBC__
  void* place = nullptr;
  join_free_pieces();
  if (posix_memalign(&place, LINE, size)) return nullptr;
  std::free(place);
  sort_free_pieces();
  return place;
#else
  return nullptr;
#endif
}
