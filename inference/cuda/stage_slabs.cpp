// Experts and the heads of latent attention for many tokens at once: a few slabs at a time are expanded to binary16, and multiplied by all
// of their pairs in one batched product of the library. A slab is read once, wherever it lies.

#include "inference/cuda/stage.hpp"

namespace kontor::inference::cuda {

/// Whether the library multiplies: expanding pays from where the other kernel would read a slab more than once.
bool Stage::slabs_tiled(const Pairs& pairs, std::int64_t rows, std::int64_t columns) const {
  const bool fits = rows * columns * 2 <= static_cast<std::int64_t>(work_.tile.bytes()) && pairs.tokens * rows * 4 <= static_cast<std::int64_t>(work_.product.bytes()) &&
                    (!pairs.tiles || pairs.tokens * columns * 2 <= static_cast<std::int64_t>(work_.pair_rows.bytes()));
  return tiled(pairs.tokens) && fits && pairs.count() > kTilePairs * pairs.slabs;
}

/// The host has to know how many pairs each expert has.
void Stage::take_blocks(std::int64_t pairs) {
  Workspace& w = work_;
  w.block_list.clear();
  w.received_tiles.resize(static_cast<std::size_t>(most_tiles(pairs, config_.experts.count)));
  std::int32_t count = 0;
  device_->stop_clock();
  device_->copy_out(w.received_tiles.data(), w.tiles.data(), w.received_tiles.size() * sizeof(Tile));
  device_->copy_out(&count, w.tile_count.data(), sizeof count);
  const auto done = device_->wait();
  device_->start_clock();
  if (!done || count < 0 || static_cast<std::size_t>(count) > w.received_tiles.size()) return;  // The end of the pass says so again.
  for (const Tile& tile : std::span(w.received_tiles).first(static_cast<std::size_t>(count))) {
    if (!w.block_list.empty() && w.block_list.back().slab == tile.slab) w.block_list.back().count += tile.count;
    else w.block_list.push_back(tile);
  }
  // Those of like size together: the smaller ones are padded to the largest.
  std::stable_sort(w.block_list.begin(), w.block_list.end(), [](const Tile& a, const Tile& b) { return a.count > b.count; });
  device_->copy_in(w.blocks.data(), w.block_list.data(), w.block_list.size() * sizeof(Tile));
}

void Stage::project_heads(const SlabProducts& products, std::int64_t count, const float* values, std::int64_t columns) {
  const Pairs pairs{count, config_.heads, config_.heads};
  const ActivationView x = view(values, pairs.count(), columns);
  if (slabs_tiled(pairs, products.product[0].rows, columns)) project_slabs_tiled(products, pairs, x, false);
  else multiply_slabs(products, pairs, x, false, device_->stream());
}

void Stage::project_slabs_tiled(const SlabProducts& products, const Pairs& pairs, const ActivationView& x, bool by_token) {
  Workspace& w = work_;
  const std::int64_t rows = products.product[0].rows, columns = x.columns;
  const auto* halves = w.halves.as<const std::uint16_t>();
  to_half(x.values, x.count, columns, w.halves.as<std::uint16_t>(), w.factors.as<float>(), device_->stream());
  const auto fits = [&](std::int64_t slabs, std::int64_t most) {
    return slabs * rows * columns * 2 <= static_cast<std::int64_t>(w.tile.bytes()) && slabs * most * rows * 4 <= static_cast<std::int64_t>(w.product.bytes()) &&
           (!pairs.tiles || slabs * most * columns * 2 <= static_cast<std::int64_t>(w.pair_rows.bytes()));
  };
  const std::int64_t all = pairs.tiles ? static_cast<std::int64_t>(w.block_list.size()) : pairs.slabs;
  for (std::int64_t first = 0, next = 0; first < all; first = next) {
    const std::int64_t most = pairs.tiles ? w.block_list[static_cast<std::size_t>(first)].count : pairs.tokens;
    for (next = first + 1; next < all && fits(next + 1 - first, most);) ++next;
    const std::int64_t slabs = next - first;
    const Tile* blocks = pairs.tiles ? w.blocks.as<const Tile>() + first : nullptr;
    MatrixProduct product;
    product.count = most;
    product.rows = product.c_length = rows;
    product.columns = product.b_length = columns;
    product.b_step = rows * columns;
    product.c_step = most * rows;
    product.batch = slabs;
    product.c = w.product.as<float>();
    if (blocks) {
      gather_pairs(halves, columns, pairs, blocks, slabs, most, by_token, w.pair_rows.as<std::uint16_t>(), device_->stream());
      product.a = w.pair_rows.as<const std::uint16_t>();
      product.a_length = columns;
      product.a_step = most * columns;
    } else {
      product.a = halves + first * columns;
      product.a_length = pairs.each * columns;
      product.a_step = columns;
    }
    for (int i = 0; i < products.count; ++i) {
      const SlabProduct& p = products.product[i];
      if (blocks) expand_slabs(p.matrix, rows, blocks, slabs, w.tile.as<std::uint16_t>(), device_->stream());
      else expand_rows(p.matrix, first * rows, slabs * rows, w.tile.as<std::uint16_t>(), device_->stream());
      product.b = w.tile.as<const std::uint16_t>();
      device_->multiply(product);
      finish_pairs(product.c, w.factors.as<const float>(), pairs, blocks, first, slabs, most, by_token, p, device_->stream());
    }
  }
}

}  // namespace kontor::inference::cuda
