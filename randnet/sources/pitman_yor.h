// Texts of a hierarchical Pitman-Yor process (Teh 2006, "A hierarchical Bayesian language model based on Pitman-Yor
// processes"; Wood et al. 2009, "A stochastic memoizer for sequence data").
//
// The process is a prior over n-gram sources whose words and contexts follow power laws, as those of real texts do. The
// next symbol's distribution after a context of m symbols is a random one that scatters about the distribution after
// the last m - 1 of them. That of the empty context scatters about the uniform one. The best prediction of its texts is
// smoothing by interpolated Kneser-Ney, and what the sequence memoizer, a text compressor, does.
//
// A program draws the length D of the longest context (`depth`), k distinct symbols of the alphabet, and for each m of
// 0 .. D a discount d(m) (`discount`) and a strength c(m) (`strength`). Each row is a text by a source of its own,
// drawn from the process with these parameters. The source itself is integrated out: by the Chinese restaurant
// franchise, symbol t is drawn with respect to the last min(D, t) symbols, where to draw with respect to the last m is:
//
//   n symbols were drawn so before, after the same m symbols; c(m) + n is the sum of what can be chosen:
//   one of these n, each with weight 1 (or 1 - d(m) if it was itself a new draw): the same symbol;
//   or, with what remains, a new draw: draw with respect to the last m - 1, or, if m = 0, one of the k uniformly.
//
// With a `history` of h > 0 symbols the program first draws such a text, which is never written. Every row is then
// drawn as if it came after that text, though none of its symbols is in the context of the row's first ones. Rows of a
// program are then texts by one source. The longer the history, the more it determines that source. A history costs as
// much as a row of its length, once per program. It is looked up in memory that no longer fits the caches. At D = 16
// the longest takes about 0.1 s.
//
// Draws of a program: depth; symbols, which is k; the k symbols (DrawDistinct); discount and strength of m = 0, then of
// m = 1, and so on up to D; history; then the history's text. A row's text is drawn by the row's generator. To draw
// with respect to m symbols takes a word w of the generator if n > 0, and none if n = 0. In double, with
//
//   place = w 2^-32 (c(m) + n),  which = floor(place),
//
// the symbol is that of draw number `which` of the n, counted from 0 in the order in which they were made, if
// which < n, and if either that draw was not a new one or place - which >= d(m); else it is a new draw, which for m = 0
// is Below(k). All of a symbol's draws, of the longest context down to the one that was not new, are remembered.
//
// With D = 0 rows are independent draws of one distribution, of few symbols or many as d(0) and c(0) are small or
// large. Small k lower what discounts can do. k is lowered to the alphabet's size. A hash of 64 bits distinguishes
// contexts.
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kPitmanYorEntry;

}  // namespace iterand
