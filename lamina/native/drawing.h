// Drawing one of several by their scores: the first up to which the exponentials sum up to more than a given share of all.
#pragma once

#include <cfloat>
#include <numeric>

#include "functions.h"
#include "handlers.h"
#include "scratch.h"

namespace lamina {

// What is drawn from: the likeliest `most`, and of these the likeliest that together have a probability of `share`.
struct Choice {
  float temperature, share = 1.0f;
  int64_t most = INT64_MAX;

  // Without a number, an array leaves it at all of them.
  Choice(float temperature, Numbers top_k, Floats top_p) : temperature(temperature) {
    if (top_k.element_count()) most = *top_k.typed_data();
    if (top_p.element_count()) share = *top_p.typed_data();
  }
};

// Minus infinity for the scores of all that is not drawn from. No more of them are sorted than has to be.
inline void narrow(float* scores, int64_t count, const Choice& choice) {
  if (choice.most >= count && choice.share >= 1.0f) return;
  std::vector<int32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  int64_t kept = std::min(choice.most, count), sorted = 0;
  auto sort_until = [&](int64_t end) {
    auto likelier = [&](int32_t a, int32_t b) { return scores[a] > scores[b] || (scores[a] == scores[b] && a < b); };
    std::partial_sort(order.begin() + sorted, order.begin() + end, order.end(), likelier);
    sorted = end;
  };
  constexpr int64_t FEW = 256;
  sort_until(kept < count ? kept : std::min(FEW, kept));
  if (choice.share < 1.0f) {
    float top = scores[order[0]], heat = std::max(choice.temperature, 1e-6f), total = 0.0f, before = 0.0f;
    auto weight = [&](int64_t place) { return std::exp((scores[order[place]] - top) / heat); };
    for (int64_t i = 0; i < kept; i++) total += weight(i);
    int64_t likely = 0;
    for (; likely < kept && before < choice.share * total; likely++) {
      if (likely == sorted) sort_until(std::min(4 * sorted, kept));
      before += weight(likely);
    }
    kept = likely;
  }
  for (int64_t i = kept; i < count; i++) scores[order[i]] = -INFINITY;
}

// The one that is drawn by `chance`, from 0 to 1; without any heat, the one with the highest score.
inline int64_t draw(float* scores, int64_t count, float chance, const Choice& choice) {
  // Numbers whose sum is looked at before they are looked at one by one.
  constexpr int64_t CHUNK = 16 * LANES;
  if (!(choice.temperature > 0.0f)) return std::max_element(scores, scores + count) - scores;
  narrow(scores, count, choice);
  int64_t chunks = (count + CHUNK - 1) / CHUNK;
  Scratch scratch(chunks * (CHUNK + 1));
  float *weights = scratch.take(chunks * CHUNK), *sums = scratch.take(chunks), total = 0.0f;
  Vector highest = all(-FLT_MAX);
  for (int64_t i = 0; i < count; i += LANES) highest = maximum(highest, count - i < LANES ? highest : load(scores + i));
  float top = largest(highest), factor = 1.0f / std::max(choice.temperature, 1e-6f);
  for (int64_t i = count / LANES * LANES; i < count; i++) top = std::max(top, scores[i]);
  for (int64_t chunk = 0; chunk < chunks; chunk++) {
    Vector sum_of_chunk{};
    for (int64_t i = chunk * CHUNK; i < (chunk + 1) * CHUNK; i += LANES) {
      Vector weight = exp((load(scores + i, count - i) - top) * factor);
      for (int64_t lane = std::max<int64_t>(count - i, 0); lane < LANES; lane++) weight[lane] = 0.0f;
      sum_of_chunk += weight;
      store(weights + i, weight);
    }
    total += sums[chunk] = sum(sum_of_chunk);
  }
  float wanted = chance * total, before = 0.0f;
  int64_t chunk = 0, found = 0;
  while (chunk + 1 < chunks && before + sums[chunk] <= wanted) before += sums[chunk++];
  for (int64_t i = chunk * CHUNK; i < std::min(count, (chunk + 1) * CHUNK); i++) {
    if (weights[i] > 0.0f) found = i;  // the last one, where sums in another order are rounded up to less
    before += weights[i];
    if (before > wanted) break;
  }
  return found;
}

}  // namespace lamina
