#include "server/connection_limits.h"

namespace iterand {

const char* Describe(ConnectionEnd why) {
  switch (why) {
    case ConnectionEnd::kTotal:
      return "refused: there are as many connections as --max-connections allows";
    case ConnectionEnd::kPeer:
      return "refused: it has as many connections as --max-connections-per-peer allows";
    case ConnectionEnd::kFiles:
      return "refused: no descriptor or memory is left for it";
    case ConnectionEnd::kIdle:
      return "closed to make room: it was idle, and there are as many connections as the limits allow";
    case ConnectionEnd::kCalls:
      return "closed: it has more calls in progress than one connection may have";
    case ConnectionEnd::kResets:
      return "closed: it gives up calls too fast";
    case ConnectionEnd::kUnauthenticated:
      return "closed: too many of its calls lack the token";
    case ConnectionEnd::kFlood:
      return "closed: it sends too many bytes that belong to no call";
  }
  return "closed";
}

}  // namespace iterand
