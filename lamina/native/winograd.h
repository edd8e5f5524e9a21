// Convolutions with kernels of 3 by 3 and steps of 1 by Winograd's minimal filtering F(2x2, 3x3): pictures are cut into tiles
// of 2 by 2 results, each of which takes 16 multiplications for a channel and a filter instead of 36. In float32 its error is
// smaller than that of the plain sum, which is longer (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural
// Networks", https://arxiv.org/abs/1509.09308).
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

// The same for kernels of 4 by 4 and steps of 2, as four convolutions with kernels of 2 by 2 and steps of 1, one for each phase
// of the picture, by F(2x2, 2x2): 9 multiplications instead of 16 (winograd_strided.cc).
bool suits_strided_winograd(const Geometry& g);

void strided_winograd_forward(ffi::ThreadPool& pool, const Geometry& g, const float* outer, const float* kernel,
                              Finish finish, float* inner);
void strided_winograd_outer(ffi::ThreadPool& pool, const Geometry& g, Undo gradient, const float* kernel, Finish finish,
                            float* outer);
void strided_winograd_kernel(ffi::ThreadPool& pool, const Geometry& g, const float* outer, Undo gradient, float* kernel,
                             float* bias);

}  // namespace lamina
