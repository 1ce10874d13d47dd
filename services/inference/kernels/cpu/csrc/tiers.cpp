// Which tier this processor runs.
#include <cstring>

#include "tier.h"

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

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}
#endif

// Best first.
const Choice* choices(int* count) {
  static const Choice all[] = {
#ifdef THERMESH_X86
      {tier_amx, has_avx512() && allows_amx()},
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
