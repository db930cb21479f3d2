#include "iterate/segment.h"

#include <cstring>
#include <utility>

namespace iterand {

void Segment::PlaceAt(std::shared_ptr<void> memory, std::byte* first, std::size_t stride) {
  elsewhere = std::move(memory);
  tokens = first;
  row_stride = stride;
}

void Segment::Resize(std::size_t sequences, std::size_t sequence_bytes, std::size_t mask_bytes) {
  row_bytes = sequence_bytes;
  if (!elsewhere) {
    own.resize(sequences * sequence_bytes);
    tokens = own.data();
    row_stride = sequence_bytes;
  }
  loss_mask.resize(sequences * mask_bytes);
  provenance.resize(sequences);
}

void Segment::CopyTo(Segment& out) const {
  const std::size_t sequences = provenance.size();
  out.Resize(sequences, row_bytes, 0);
  for (std::size_t place = 0; place < sequences; ++place) std::memcpy(out.row(place), row(place), row_bytes);
  out.provenance = provenance;
  out.loss_mask = loss_mask;
  out.generated_symbols = generated_symbols;
}

}  // namespace iterand
