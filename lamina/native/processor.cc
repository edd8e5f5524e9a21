// Which of the libraries this processor can run; built for the plainest processor, so that it runs on all.

extern "C" __attribute__((visibility("default"))) const char* lamina_instruction_set() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("popcnt")) return "";
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi") ||
      !__builtin_cpu_supports("bmi2"))
    return "x86-64-v2";
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512cd") || !__builtin_cpu_supports("avx512dq") ||
      !__builtin_cpu_supports("avx512vl"))
    return "x86-64-v3";
  return "x86-64-v4";
#elif defined(__aarch64__)
  return "armv8-a";
#else
  return "";
#endif
}
