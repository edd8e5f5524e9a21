// The heap between two steps of a training, as glibc keeps it.

#include <cstdlib>

// Makes free memory whole where small pieces stand between: where an aligned block was, what its alignment left over lies
// before and behind, in a store of small pieces that are never joined with their neighbours. The next block of the same
// size then does not fit there, and a step's memory goes to and fro between two places. The store takes seven pieces of
// a size; here others take their place, and those that it held are freed past it.
extern "C" __attribute__((visibility("default"))) void lamina_join_free_pieces() {
#ifdef __GLIBC__
  constexpr size_t SMALLEST = 24, LARGEST = 88, STEP = 16;  // what alignment to a line of the cache can leave over
  constexpr int STORED = 7;
  for (size_t size = SMALLEST; size <= LARGEST; size += STEP) {
    void* volatile stored[STORED];  // volatile, or the compiler would leave all of this out
    void* volatile others[STORED];
    for (auto& piece : stored) piece = std::malloc(size);
    for (auto& piece : others) piece = std::malloc(size);
    for (auto& piece : others) std::free(piece);
    for (auto& piece : stored) std::free(piece);
  }
#endif
}
