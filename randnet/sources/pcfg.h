// Random probabilistic context-free grammars; a row is a sequence of sentences.
//
// A program draws the number of nonterminals N, of rules per nonterminal R, the largest length B of a right-hand side,
// the number of terminals T, its ambiguity, its share of terminals, a Dirichlet concentration and a depth limit D. T
// distinct symbols of the alphabet are the terminals; with `separator`, one more ends each sentence. Nonterminal 0 is
// the start.
//
// Each rule has a length uniform in 1 .. B. Its first symbol is a terminal, and the first terminals of the R rules of a
// nonterminal are distinct, so that the next terminal determines which rule was taken (a simple, hence unambiguous
// grammar; Korenjak and Hopcroft 1966). With probability `ambiguity` a rule is exempt: its first symbol is drawn like
// the others, each a uniformly drawn terminal with probability `terminal_share`, else a uniformly drawn nonterminal.
// Rule 0 of each nonterminal has terminals only. The probabilities of a nonterminal's rules are a symmetric Dirichlet
// draw.
//
// A sentence is derived leftmost first. A nonterminal at depth D (the start is at depth 0) takes rule 0, so every
// derivation ends. No more than D + 1 rules are applied from one terminal to the next, so the work of a row is bounded
// by length x (D + 2). The last sentence is cut at the row's end.
//
// Limits: T is lowered until all symbols fit the alphabet, R to T.
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kPcfgEntry;

}  // namespace iterand
