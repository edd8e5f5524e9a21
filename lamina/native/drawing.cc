// Drawing for programs that do not write natively.

#include "drawing.h"

namespace lamina {
namespace {

ffi::Error draw_one(Floats scores, Floats chance, Floats temperature, Numbers top_k, Floats top_p,
                    ffi::Result<Numbers> drawn) {
  int64_t count = scores.element_count();
  std::vector<float> copy(scores.typed_data(), scores.typed_data() + count);
  *drawn->typed_data() = draw(copy.data(), count, *chance.typed_data(), {*temperature.typed_data(), top_k, top_p});
  return ffi::Error::Success();
}

LAMINA_HANDLER(draw, draw_one,
               ffi::Ffi::Bind().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Numbers>().Arg<Floats>().Ret<Numbers>());

}  // namespace
}  // namespace lamina
