// Which tier this processor runs.
#include <cstring>

#include "tier.h"

#ifdef THERMESH_X86
#include <cpuid.h>
#endif
#if defined(THERMESH_X86) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace thermesh {
namespace {

struct Choice {
  const Tier& (*tier)();
  bool is_supported;
};

#ifdef THERMESH_X86
// The builtins also ask whether the operating system saves the registers.
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

bool has_bfloat16() {
  constexpr unsigned kVectorsOfBfloat16 = 1u << 5;
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & kVectorsOfBfloat16);
}

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

bool allows_amx() {
#ifdef __linux__
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25, kBfloat16 = 1u << 22;
  constexpr unsigned kAll = kTile | kInt8 | kBfloat16;
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kAll) != kAll) return false;
  // Linux saves the tiles of a process only if it has asked for them
  // (https://docs.kernel.org/arch/x86/xstate.html); one without AMX refuses.
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

// Best first.
const Choice* choices(int* count) {
  static const Choice all[] = {
#ifdef THERMESH_X86
      {tier_amx, has_avx512() && has_bfloat16() && allows_amx()},
      {tier_bfloat16, has_avx512() && has_bfloat16()},
      {tier_avx512, has_avx512()},
      {tier_avx2, has_avx2()},
#endif
      {tier_generic, true},
  };
  *count = sizeof all / sizeof all[0];
  return all;
}

}  // namespace

const Tier* find_tier(const char* name) {
  int count = 0;
  const Choice* all = choices(&count);
  for (int i = 0; i < count; ++i) {
    if (!all[i].is_supported) continue;
    const Tier& tier = all[i].tier();
    if (!*name || !std::strcmp(name, tier.name)) return &tier;
  }
  return nullptr;
}

}  // namespace thermesh
