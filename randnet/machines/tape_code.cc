#include "randnet/machines/tape_code.h"

namespace iterand::tape {

void Compile(std::string_view text, int cells, int symbols, bool repeat, std::vector<Group>& code,
             std::vector<std::uint32_t>& open) {
  code.clear();
  open.clear();
  for (std::size_t i = 0; i < text.size();) {
    Group group{};
    std::int64_t move = 0;
    std::int64_t add = 0;
    const std::size_t begin = i;
    for (; i < text.size() && (text[i] == '>' || text[i] == '<'); ++i) move += text[i] == '>' ? 1 : -1;
    for (; i < text.size() && (text[i] == '+' || text[i] == '-'); ++i) add += text[i] == '+' ? 1 : -1;
    group.move = static_cast<std::uint16_t>((move % cells + cells) % cells);
    group.add = static_cast<std::uint16_t>((add % symbols + symbols) % symbols);
    const auto place = static_cast<std::uint32_t>(code.size());
    group.next[0] = group.next[1] = place + 1;
    if (i < text.size()) {
      switch (text[i]) {
        case '.':
          group.writes = 1;
          ++i;
          break;
        case ',':
          group.reads = 1;
          ++i;
          break;
        case '[':
          open.push_back(place);
          ++i;
          break;
        case ']':
          group.next[1] = open.back() + 1;
          code[open.back()].next[0] = place + 1;
          open.pop_back();
          ++i;
          break;
        default:  // a move after additions begins the next group
          break;
      }
    }
    group.steps = static_cast<std::uint32_t>(i - begin);
    code.push_back(group);
  }
  if (!repeat) return;
  const auto end = static_cast<std::uint32_t>(code.size());
  for (Group& group : code) {
    for (std::uint32_t& next : group.next) next = next == end ? 0 : next;
  }
}

}  // namespace iterand::tape
