// Convolutions with kernels of 3 by 3 and steps of 1 by Winograd's minimal filtering: pictures are cut into tiles of 2 by 4
// results, F(2x4, 3x3), each of which takes 24 multiplications for a channel and a filter instead of 72, or of 2 by 2,
// F(2x2, 3x3), with 16 instead of 36. In float32 the largest error is about that of the plain sum, which is longer
// (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", https://arxiv.org/abs/1509.09308).
#pragma once

#include "convolution.h"
#include "product.h"

namespace lamina {

// Whether the convolution can be done so, and is faster.
bool suits_winograd(const Geometry& g);

// The outer side may be two pictures, with channels that fill whole vectors each.
void winograd_forward(ffi::ThreadPool& pool, const Geometry& g, Pictures<const float> outer, const float* kernel,
                      Finish finish, float* inner);
void winograd_outer(ffi::ThreadPool& pool, const Geometry& g, Undo gradient, const float* kernel, Finish finish,
                    Pictures<float> outer);
void winograd_kernel(ffi::ThreadPool& pool, const Geometry& g, Pictures<const float> outer, Undo gradient, float* kernel,
                     float* bias);

// The first, by so many rows of the result at a time; then(part, first place, last place) is called for each such part, by the
// thread that has it in its cache.
int64_t rows_at_once(const Geometry& g);
void winograd_by_rows(ffi::ThreadPool& pool, const Geometry& g, const float* outer, const float* kernel, Finish finish,
                      float* inner, const std::function<void(int64_t, int64_t, int64_t)>& then);
// The other two in one, of a gradient that give(first, last, to) works out for some pictures at a time.
void winograd_gradients(ffi::ThreadPool& pool, const Geometry& g, const float* outer, const float* kernel,
                        const std::function<void(int64_t, int64_t, float*)>& give, float* outer_gradient,
                        float* kernel_gradient, float* bias);

// The same for kernels of 4 by 4 and of 3 by 3 and steps of 2, as four convolutions with kernels of at most 2 by 2 and steps of 1,
// one for each phase of the picture, by F(3x3, 2x2): for 9 results 64 multiplications instead of 144, and 49 instead of 81
// (winograd_strided.cc).
bool suits_strided_winograd(const Geometry& g);

void strided_winograd_forward(ffi::ThreadPool& pool, const Geometry& g, const float* outer, const float* kernel,
                              Finish finish, float* inner);
void strided_winograd_outer(ffi::ThreadPool& pool, const Geometry& g, Undo gradient, const float* kernel, Finish finish,
                            float* outer);
void strided_winograd_kernel(ffi::ThreadPool& pool, const Geometry& g, const float* outer, Undo gradient, float* kernel,
                             float* bias);

}  // namespace lamina
