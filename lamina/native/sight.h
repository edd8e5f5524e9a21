// Which queries of an attention may see which keys, by their positions and by a mask. Queries come in blocks, in the
// lanes of vectors; what no query of a block may see is left out.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "tiles.h"

namespace lamina {

// How many queries are in a block, and the most keys that are worked on at once.
constexpr int64_t BLOCK = WIDEST_TILE * LANES, KEYS = 128;

// Which keys a query may see: those from `lower` to `upper` positions before it that the mask, if any, does not hide.
struct Sight {
  int64_t lower, upper;
  const bool* mask = nullptr;
  int64_t by_example = 0, by_head = 0, by_query = 0, by_key = 0;  // steps in the mask

  const bool* mask_at(int64_t example, int64_t head, int64_t query, int64_t key) const {
    return mask + example * by_example + head * by_head + query * by_query + key * by_key;
  }
};

// Queries of one head.
struct Block {
  int64_t example, head, first, count;
};

struct Range {
  int64_t first, end;
};

// The keys in `range` that any query of the block may see, and maybe some between.
inline Range seen(const Sight& sight, const Block& block, Range range) {
  range.first = std::max(range.first, block.first - sight.upper);
  range.end = std::min(range.end, block.first + block.count - sight.lower);
  if (sight.mask && !sight.by_query && sight.by_key) {
    const bool* mask = sight.mask_at(block.example, block.head, 0, 0);
    while (range.first < range.end && !mask[range.first]) range.first++;
    while (range.first < range.end && !mask[range.end - 1]) range.end--;
  }
  return range;
}

// Keys that vectors low, low + 1, ..., high - 1 of a block may see; at an `edge`, not all of their lanes may.
struct Run {
  int64_t first, count, low, high;
  bool edge;
};

// The runs that the keys in a range, up to KEYS of them, make up.
struct Runs {
  std::array<Run, KEYS / LANES + 1> all;
  int count = 0;

  Runs(const Sight& sight, const Block& block, Range keys) {
    for (int64_t first = keys.first, end; first < keys.end; first = end) {
      end = std::min(keys.end, (first / LANES + 1) * LANES);
      // the queries of the block that may see any of the keys, and those that may see all
      Range any{first + sight.lower - block.first, end + sight.upper - block.first};
      Range each{end - 1 + sight.lower - block.first, first + 1 + sight.upper - block.first};
      int64_t low = std::max<int64_t>(any.first, 0) / LANES, high = std::min(vectors(any.end), vectors(block.count));
      if (low >= high) continue;
      bool edge = low * LANES < each.first || std::min(high * LANES, block.count) > each.end;
      Run* last = count ? &all[count - 1] : nullptr;
      if (last && last->first + last->count == first && last->low == low && last->high == high && last->edge == edge)
        last->count += end - first;
      else
        all[count++] = {first, end - first, low, high, edge};
    }
  }
  const Run* begin() const { return all.data(); }
  const Run* end() const { return all.data() + count; }
};

// Hides the scores of what may not be seen; `scores` begin with the first key of the run, and the next one's are a step on.
inline void hide(const Sight& sight, const Block& block, const Run& run, float* scores, int64_t step = BLOCK) {
  const Vector hidden = all(-INFINITY);
  if (run.edge) {
    Mask lane;
    for (int i = 0; i < LANES; i++) lane[i] = i;
    for (int64_t k = 0; k < run.count; k++)
      for (int64_t v = run.low; v < run.high; v++) {
        float* score = scores + k * step + v * LANES;
        Mask distance = lane + static_cast<int32_t>(block.first + v * LANES - run.first - k);
        Mask outside = (distance < static_cast<int32_t>(sight.lower)) | (distance > static_cast<int32_t>(sight.upper));
        store(score, outside ? hidden : load(score));
      }
  }
  if (!sight.mask) return;
  const bool* mask = sight.mask_at(block.example, block.head, block.first, run.first);
  if (!sight.by_query) {
    for (int64_t k = 0; k < run.count; k++)
      if (!mask[k * sight.by_key])
        for (int64_t v = run.low; v < run.high; v++) store(scores + k * step + v * LANES, hidden);
    return;
  }
  for (int64_t i = run.low * LANES; i < std::min(run.high * LANES, block.count); i++) {
    const bool* row = mask + i * sight.by_query;
    if (sight.by_key && !std::memchr(row, 0, run.count)) continue;
    for (int64_t k = 0; k < run.count; k++)
      scores[k * step + i] = row[k * sight.by_key] ? scores[k * step + i] : -INFINITY;
  }
}

}  // namespace lamina
