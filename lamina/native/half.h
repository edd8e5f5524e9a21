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
typedef Half HalfVector __attribute__((vector_size(LANES * sizeof(Half))));
typedef uint32_t Words __attribute__((vector_size(LANES * sizeof(uint32_t))));

inline Words words(const Half* from, int64_t count) {
  HalfVector halves = reinterpret_cast<HalfVector>(
      _mm256_maskz_loadu_epi16(count >= LANES ? 0xffff : count > 0 ? (1u << count) - 1 : 0, from));
  return __builtin_convertvector(halves, Words);
}

inline Vector load(const Half* from, int64_t count) { return reinterpret_cast<Vector>(words(from, count) << 16); }

// Rounded to the nearest, and to even ones in between; a NaN stays one.
inline void store(Half* to, Vector value, int64_t count) {
  Words bits = reinterpret_cast<Words>(value), up = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  HalfVector halves = __builtin_convertvector(value == value ? up : (bits >> 16) | 0x40, HalfVector);
  if (count > 0)
    _mm256_mask_storeu_epi16(to, count >= LANES ? 0xffff : (1u << count) - 1, reinterpret_cast<__m256i>(halves));
}

}  // namespace lamina

#endif
