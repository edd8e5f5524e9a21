// Numbers of bfloat16, worked with as vectors of float32.
#pragma once

#if defined(__AVX512F__)

#include <immintrin.h>

#include "handlers.h"
#include "vector.h"

namespace lamina {

using Half = uint16_t;
using Halves = ffi::Buffer<ffi::BF16>;
using HalvesOut = ffi::Result<ffi::Buffer<ffi::BF16>>;
typedef uint32_t Words __attribute__((vector_size(LANES * sizeof(uint32_t))));

inline __mmask16 first_lanes(int64_t count) { return count >= LANES ? 0xffff : count > 0 ? (1u << count) - 1 : 0; }

inline Words words(const Half* from, int64_t count) {
  return reinterpret_cast<Words>(_mm512_maskz_cvtepu16_epi32(0xffff, _mm256_maskz_loadu_epi16(first_lanes(count), from)));
}

inline Vector load(const Half* from, int64_t count) { return reinterpret_cast<Vector>(words(from, count) << 16); }

// Rounded to the nearest, and to even ones in between; a NaN stays one.
inline void store(Half* to, Vector value, int64_t count) {
  Words bits = reinterpret_cast<Words>(value), up = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  Words halves = value == value ? up : (bits >> 16) | 0x40;
  _mm512_mask_cvtepi32_storeu_epi16(to, first_lanes(count), reinterpret_cast<__m512i>(halves));
}

}  // namespace lamina

#endif
