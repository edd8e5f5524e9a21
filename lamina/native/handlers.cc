// The one function that Python looks up: it tells all handlers of the library.

#include "handlers.h"

extern "C" __attribute__((visibility("default"))) const lamina::Handler* lamina_handlers(int64_t* count) {
  *count = lamina::handlers().size();
  return lamina::handlers().data();
}
