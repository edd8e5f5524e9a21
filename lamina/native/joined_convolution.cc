// Convolutions of two pictures whose channels follow each other, without writing both into one; only such as minimal
// filtering suits (see lamina/kernels/joined_convolution.py).

#include "winograd.h"

namespace lamina {
namespace {

ffi::Error joined_convolution(ffi::ThreadPool pool, Floats first, Floats second, Floats kernel, Floats bias, FloatsOut y,
                              Integers pads, float slope) {
  Geometry g = joined(first.dimensions(), second.dimensions(), kernel.dimensions(), y->dimensions(), pads);
  const float* added = values_or_null(bias);
  winograd_forward(pool, g, {first.typed_data(), second.typed_data(), second.dimensions()[3]}, kernel.typed_data(),
                   {added, slope}, y->typed_data());
  return ffi::Error::Success();
}

ffi::Error joined_convolution_outer(ffi::ThreadPool pool, Floats gradient, Floats result, Floats kernel, FloatsOut first,
                                    FloatsOut second, Integers pads, float undone) {
  Geometry g = joined(first->dimensions(), second->dimensions(), kernel.dimensions(), gradient.dimensions(), pads);
  winograd_outer(pool, g, Undo(gradient, result, undone), kernel.typed_data(), {},
                 {first->typed_data(), second->typed_data(), second->dimensions()[3]});
  return ffi::Error::Success();
}

ffi::Error joined_convolution_kernel(ffi::ThreadPool pool, Floats first, Floats second, Floats gradient, Floats result,
                                     FloatsOut kernel, FloatsOut bias, Integers pads, float undone) {
  Geometry g = joined(first.dimensions(), second.dimensions(), kernel->dimensions(), gradient.dimensions(), pads);
  winograd_kernel(pool, g, {first.typed_data(), second.typed_data(), second.dimensions()[3]},
                  Undo(gradient, result, undone), kernel->typed_data(), bias->typed_data());
  return ffi::Error::Success();
}

LAMINA_HANDLER(joined_convolution, joined_convolution,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                   .Ret<ffi::Buffer<ffi::F32>>().Attr<Integers>("pads").Attr<float>("slope"));
LAMINA_HANDLER(joined_convolution_outer, joined_convolution_outer,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                   .Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>().Attr<Integers>("pads").Attr<float>("undone"));
LAMINA_HANDLER(joined_convolution_kernel, joined_convolution_kernel,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                   .Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>().Attr<Integers>("pads").Attr<float>("undone"));

}  // namespace
}  // namespace lamina
