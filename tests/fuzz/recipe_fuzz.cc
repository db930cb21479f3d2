// Recipes: any text.
#include <cstdint>
#include <string_view>

#include "iterate/recipe_json.h"
#include "tests/fuzz/check_recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto recipe = iterand::ParseRecipeJson({reinterpret_cast<const char*>(data), size});
  if (recipe.ok()) {
    iterand::CheckRecipe(*recipe);
  } else {
    iterand::ExpectRefusal(recipe.status());
  }
  return 0;
}
