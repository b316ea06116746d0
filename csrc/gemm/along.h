// How an operand of a matrix product lies in memory.
#pragma once

namespace minicnn {

// Which neighbours lie side by side in memory: those along the reduction k, or those along the outer index, which is
// the row of c for operand a and the column of c for operand b.
enum class Along { reduction, outer };

}  // namespace minicnn
