// With csrc/bindings/ all that knows Python: one line a launch function.
//
// A module has the attributes
//   signatures     {"relu_forward": ("float32", "float32", "int", "stream"), ...}: one name a parameter. An array goes
//                  by its dtype and arrives as a contiguous NumPy array of it, an address, or None for null; "int" and
//                  "float" are numbers; a shape is a sequence
//   shape_fields   {"ConvShape": ("n", "h", ...), ...}
//   architectures  the GPU architectures that the kernels were compiled for; empty in the emulated module
//   cuda_version   of the toolkit, as CUDART_VERSION has it; 0 in the emulated module
// and the native modules have
//   instruction_set()   which processors theirs are the kernels for
//   instruction_sets()  what this processor can run, the best first
//   set_thread_count(count), thread_count()
//   pictures            a module of what the data pipeline does in C++
#include "bindings/bind.h"
#include "gemm/tensor_core_layout.h"
#include "kernels.h"
#include "shapes.h"

#ifdef MINICNN_EMULATED
#include "emulation/bindings.h"
#endif
#if defined(MINICNN_EMULATED) || defined(MINICNN_PROBES)
#include "emulation/probes.h"
#endif
#ifdef MINICNN_CHECKED
#include "emulation/detector/races.h"
#endif
#ifdef MINICNN_NATIVE
#include <pybind11/stl.h>

#include "native/cpu.h"
#include "native/resize.h"
#include "native/threads.h"
#endif

#ifndef MINICNN_ARCHITECTURES
#define MINICNN_ARCHITECTURES ""
#endif
#ifndef MINICNN_CUDA_VERSION
#define MINICNN_CUDA_VERSION 0
#endif

namespace minicnn {
namespace {

template <class Shape>
void bind_shape(py::module_& module) {
  py::list fields;
  for (const char* field : ShapeFields<Shape>::fields) fields.append(field);
  module.attr("shape_fields")[ShapeFields<Shape>::name] = py::tuple(fields);
}

// An all-int struct as a tuple.
template <class Struct>
py::tuple fields_of(const Struct& value) {
  const auto fields = std::bit_cast<std::array<int, sizeof(Struct) / sizeof(int)>>(value);
  py::tuple tuple(fields.size());
  for (size_t i = 0; i < fields.size(); ++i) tuple[i] = fields[i];
  return tuple;
}

// A module of its own within another.
py::module_ submodule(py::module_& module, const char* name) {
  py::module_ inner = module.def_submodule(name);
  inner.attr("signatures") = py::dict();
  return inner;
}

// Elements from the beginning of a slice in shared memory to (outer, k): csrc/gemm/tensor_core_layout.h.
template <int TILE, Along ALONG>
int slice_offset(int element_bytes, int outer, int k) {
  return int(element_bytes == 2 ? SliceLayout<Bfloat16, TILE, ALONG>::offset(outer, k)
                                : SliceLayout<float, TILE, ALONG>::offset(outer, k));
}

int tensor_core_slice_offset(int element_bytes, int tile, int along_reduction, int outer, int k) {
  const auto of_tile_64 = along_reduction ? slice_offset<64, Along::reduction> : slice_offset<64, Along::outer>;
  const auto of_tile_128 = along_reduction ? slice_offset<128, Along::reduction> : slice_offset<128, Along::outer>;
  return (tile == 64 ? of_tile_64 : of_tile_128)(element_bytes, outer, k);
}

// The index maps of csrc/shapes.h, for the test that compares them with NumPy, and that of the tensor cores' operands.
void bind_index_maps(py::module_ m) {
  bind(m, "tensor_core_slice_offset", tensor_core_slice_offset);
  bind(m, "input_at", +[](Axis axis, int output, int tap) { return axis.input_at(output, tap); });
  bind(m, "is_inside", +[](Axis axis, int input) { return axis.is_inside(input); });
  bind(m, "output_at", +[](Axis axis, int input, int tap) { return axis.output_at(input, tap); });
  bind(m, "first_tap", +[](Axis axis, int input) { return axis.first_tap(input); });
  bind(m, "tap_step", +[](Axis axis) { return axis.tap_step(); });
  bind(
      m, "conv_axes",
      +[](ConvShape shape) { return py::make_tuple(fields_of(shape.rows()), fields_of(shape.columns())); });
  bind(
      m, "pool_axes",
      +[](PoolShape shape) { return py::make_tuple(fields_of(shape.rows()), fields_of(shape.columns())); });
  bind(m, "output_pixel", +[](ConvShape shape, int index) { return fields_of(output_pixel(shape, index)); });
  bind(m, "input_pixel", +[](ConvShape shape, int index) { return fields_of(input_pixel(shape, index)); });
  bind(
      m, "tap_at", +[](ConvShape shape, int index, int channels) { return fields_of(tap_at(shape, index, channels)); });
  bind(
      m, "pixel_after", +[](int image, int row, int column, int by, int rows, int columns) {
        return fields_of(pixel_after({image, row, column}, by, rows, columns));
      });
  bind(
      m, "tap_after", +[](int r, int s, int channel, int by, int width, int channels) {
        return fields_of(tap_after({r, s, channel}, by, width, channels));
      });
  bind(m, "x_offset", x_offset);
  bind(m, "w_offset", w_offset);
  bind(m, "y_offset", y_offset);
}

void bind_kernels(py::module_& m) {
  bind(m, "adam_step", adam_step);
  bind(m, "adaptive_avgpool2d_backward", adaptive_avgpool2d_backward);
  bind(m, "adaptive_avgpool2d_forward", adaptive_avgpool2d_forward);
  bind(m, "add_forward", add_forward);
  bind(m, "add_relu_backward", add_relu_backward);
  bind(m, "add_relu_forward", add_relu_forward);
  bind(m, "avgpool2d_backward", avgpool2d_backward);
  bind(m, "avgpool2d_forward", avgpool2d_forward);
  bind(m, "batch_norm_backward_input", batch_norm_backward_input);
  bind(m, "batch_norm_backward_sums", batch_norm_backward_sums);
  bind(m, "batch_norm_forward", batch_norm_forward);
  bind(m, "batch_norm_statistics", batch_norm_statistics);
  bind(m, "batch_norm_workspace", batch_norm_workspace);
  bind(m, "clip_factor", clip_factor);
  bind(m, "clip_scale", clip_scale);
  bind(m, "clip_squares", clip_squares);
  bind(m, "clip_workspace", clip_workspace);
  bind(m, "conv2d_backward_input", conv2d_backward_input);
  bind(m, "conv2d_backward_input_workspace", conv2d_backward_input_workspace);
  bind(m, "conv2d_backward_weight", conv2d_backward_weight);
  bind(m, "conv2d_backward_weight_workspace", conv2d_backward_weight_workspace);
  bind(m, "conv2d_forward", conv2d_forward);
  bind(m, "conv2d_forward_workspace", conv2d_forward_workspace);
  bind(m, "cross_entropy_backward", cross_entropy_backward);
  bind(m, "cross_entropy_forward", cross_entropy_forward);
  bind(m, "cross_entropy_reduce", cross_entropy_reduce);
  bind(m, "div_backward_a", div_backward_a);
  bind(m, "div_backward_b", div_backward_b);
  bind(m, "div_forward", div_forward);
  bind(m, "dropout_apply", dropout_apply);
  bind(m, "dropout_draw", dropout_draw);
  bind(m, "exp_backward", exp_backward);
  bind(m, "exp_forward", exp_forward);
  bind(m, "gemm", gemm);
  bind(m, "gemm_workspace", gemm_workspace);
  bind(m, "linear_backward_input", linear_backward_input);
  bind(m, "linear_backward_input_workspace", linear_backward_input_workspace);
  bind(m, "linear_backward_weight", linear_backward_weight);
  bind(m, "linear_backward_weight_workspace", linear_backward_weight_workspace);
  bind(m, "linear_dropout_forward", linear_dropout_forward);
  bind(m, "linear_dropout_forward_workspace", linear_dropout_forward_workspace);
  bind(m, "linear_forward", linear_forward);
  bind(m, "linear_forward_workspace", linear_forward_workspace);
  bind(m, "log_backward", log_backward);
  bind(m, "log_forward", log_forward);
  bind(m, "log_softmax_backward", log_softmax_backward);
  bind(m, "log_softmax_forward", log_softmax_forward);
  bind(m, "lrn_backward", lrn_backward);
  bind(m, "lrn_forward", lrn_forward);
  bind(m, "max_backward", max_backward);
  bind(m, "max_forward", max_forward);
  bind(m, "maxpool2d_backward", maxpool2d_backward);
  bind(m, "maxpool2d_forward", maxpool2d_forward);
  bind(m, "mul_backward_a", mul_backward_a);
  bind(m, "mul_backward_b", mul_backward_b);
  bind(m, "mul_forward", mul_forward);
  bind(m, "pow_backward", pow_backward);
  bind(m, "pow_forward", pow_forward);
  bind(m, "reduction_workspace", reduction_workspace);
  bind(m, "prepare_images", prepare_images);
  bind(m, "relu_backward", relu_backward);
  bind(m, "relu_forward", relu_forward);
  bind(m, "sgd_step", sgd_step);
  bind(m, "sigmoid_backward", sigmoid_backward);
  bind(m, "sigmoid_forward", sigmoid_forward);
  bind(m, "softmax_backward", softmax_backward);
  bind(m, "softmax_forward", softmax_forward);
  bind(m, "sqrt_backward", sqrt_backward);
  bind(m, "sqrt_forward", sqrt_forward);
  bind(m, "strided_copy", strided_copy);
  bind(m, "sub_forward", sub_forward);
  bind(m, "sum_forward", sum_forward);
  bind(m, "tanh_backward", tanh_backward);
  bind(m, "tanh_forward", tanh_forward);
}

#ifndef MINICNN_NATIVE

// What devices have beside: the ladders' other rungs, products of 16-bit numbers.
void bind_device_kernels(py::module_& m) {
  bind(m, "conv2d_backward_input_bfloat16", conv2d_backward_input_bfloat16);
  bind(m, "conv2d_backward_input_float16", conv2d_backward_input_float16);
  bind(m, "conv2d_backward_weight_bfloat16", conv2d_backward_weight_bfloat16);
  bind(m, "conv2d_backward_weight_float16", conv2d_backward_weight_float16);
  bind(m, "conv2d_forward_bfloat16", conv2d_forward_bfloat16);
  bind(m, "conv2d_forward_float16", conv2d_forward_float16);
  bind(m, "conv2d_im2col_backward_input", conv2d_im2col_backward_input);
  bind(m, "conv2d_im2col_backward_input_workspace", conv2d_im2col_backward_input_workspace);
  bind(m, "conv2d_im2col_backward_weight", conv2d_im2col_backward_weight);
  bind(m, "conv2d_im2col_backward_weight_workspace", conv2d_im2col_backward_weight_workspace);
  bind(m, "conv2d_im2col_forward", conv2d_im2col_forward);
  bind(m, "conv2d_im2col_forward_workspace", conv2d_im2col_forward_workspace);
  bind(m, "conv2d_maxpool2d_fits", conv2d_maxpool2d_fits);
  bind(m, "conv2d_maxpool2d_forward", conv2d_maxpool2d_forward);
  bind(m, "conv2d_maxpool2d_forward_bfloat16", conv2d_maxpool2d_forward_bfloat16);
  bind(m, "conv2d_maxpool2d_forward_float16", conv2d_maxpool2d_forward_float16);
  bind(m, "conv2d_maxpool2d_forward_workspace", conv2d_maxpool2d_forward_workspace);
  bind(m, "gemm_1_naive", gemm_1_naive);
  bind(m, "gemm_2_shared", gemm_2_shared);
  bind(m, "gemm_3_register", gemm_3_register);
  bind(m, "gemm_4_vectorized", gemm_4_vectorized);
  bind(m, "gemm_5_pipelined", gemm_5_pipelined);
  bind(m, "gemm_6_tensor_core", gemm_6_tensor_core);
  bind(m, "gemm_7_ldmatrix", gemm_7_ldmatrix);
  bind(m, "gemm_8_asynchronous", gemm_8_asynchronous);
  bind(m, "gemm_bfloat16", gemm_bfloat16);
  bind(m, "gemm_float16", gemm_float16);
  bind(m, "linear_backward_weight_sgd", linear_backward_weight_sgd);
  bind(m, "lrn_backward_bfloat16", lrn_backward_bfloat16);
  bind(m, "lrn_backward_float16", lrn_backward_float16);
  bind(m, "lrn_forward_bfloat16", lrn_forward_bfloat16);
  bind(m, "lrn_forward_float16", lrn_forward_float16);
  bind(m, "maxpool2d_backward_bfloat16", maxpool2d_backward_bfloat16);
  bind(m, "maxpool2d_backward_float16", maxpool2d_backward_float16);
  bind(m, "maxpool2d_forward_bfloat16", maxpool2d_forward_bfloat16);
  bind(m, "maxpool2d_forward_float16", maxpool2d_forward_float16);
  bind(m, "narrow_bfloat16", narrow_bfloat16);
  bind(m, "narrow_float16", narrow_float16);
  bind(m, "prepare_images_bfloat16", prepare_images_bfloat16);
  bind(m, "prepare_images_float16", prepare_images_float16);
  bind(m, "sgd_step_bfloat16", sgd_step_bfloat16);
  bind(m, "sgd_step_float16", sgd_step_float16);
  bind(m, "widen_bfloat16", widen_bfloat16);
  bind(m, "widen_float16", widen_float16);
}

#endif

#if defined(MINICNN_EMULATED) || defined(MINICNN_PROBES)
// Probes of single instructions: a GPU's are compared with their twins.
void bind_instructions(py::module_ m) {
  bind(m, "load_matrices", probes::load_matrices);
  bind(m, "mma", probes::mma);
  bind(m, "narrow", probes::narrow);
  bind(m, "run_copies", probes::run_copies);
  bind(m, "warp_gemm_bf16", probes::warp_gemm_bf16);
  bind(m, "warp_gemm_f16", probes::warp_gemm_f16);
  bind(m, "warp_gemm_tf32", probes::warp_gemm_tf32);
  bind(m, "widen_bf16", probes::widen_bf16);
  bind(m, "widen_f16", probes::widen_f16);
}
#endif

#ifdef MINICNN_EMULATED

void bind_probes(py::module_ m) {
  bind(m, "atomics", probes::atomics);
  bind(m, "atomics_of_block", probes::atomics_of_block);
  bind(m, "block_reductions", probes::block_reductions);
  bind(m, "block_votes", probes::block_votes);
  bind(m, "built_ins", probes::built_ins);
  bind(m, "copy_misaligned", probes::copy_misaligned);
  bind(m, "diverge_at_barrier", probes::diverge_at_barrier);
  bind(m, "diverge_at_mma", probes::diverge_at_mma);
  bind(m, "diverge_in_warp", probes::diverge_in_warp);
  bind(m, "hand_over", probes::hand_over);
  bind(m, "load_matrices_in_half_a_warp", probes::load_matrices_in_half_a_warp);
  bind(m, "misuse_named_barrier", probes::misuse_named_barrier);
  bind(m, "overflow_stack", probes::overflow_stack);
  bind(m, "philox", probes::philox);
  bind(m, "philox_known_answer", probes::philox_known_answer);
  bind(m, "read_at", probes::read_at);
  bind(m, "read_shared", probes::read_shared);
  bind(m, "return_before_barrier", probes::return_before_barrier);
  bind(m, "reverse", probes::reverse);
  bind(m, "reverse_without_barrier", probes::reverse_without_barrier);
  bind(m, "shuffle_outside_mask", probes::shuffle_outside_mask);
  bind(m, "shuffle_with_foreign_mask", probes::shuffle_with_foreign_mask);
  bind(m, "shuffles", probes::shuffles);
  bind(m, "start_order", probes::start_order);
  bind(m, "sum_by_parity", probes::sum_by_parity);
  bind(m, "throw_in_thread", probes::throw_in_thread);
  bind(m, "transpose", probes::transpose);
  bind(m, "use_more_shared_than_given", probes::use_more_shared_than_given);
  bind(m, "votes", probes::votes);
  bind(m, "wait_for_each_other", probes::wait_for_each_other);
  bind(m, "write_at", probes::write_at);
  bind(m, "write_shared", probes::write_shared);
}

#endif

#ifdef MINICNN_CHECKED

void bind_races(py::module_ m) {
  bind(m, "atomic_and_plain", races::atomic_and_plain);
  bind(m, "atomics_of_blocks", races::atomics_of_blocks);
  bind(m, "bytes", races::bytes);
  bind(m, "copies", races::copies);
  bind(m, "copy_from", races::copy_from);
  bind(m, "flag_in_block", races::flag_in_block);
  bind(m, "increment", races::increment);
  bind(m, "last_block", races::last_block);
  bind(m, "move_four", races::move_four);
  bind(m, "named", races::named);
  bind(m, "neighbours", races::neighbours);
  bind(m, "on_the_host", races::on_the_host);
  bind(m, "own_array", races::own_array);
  bind(m, "read_and_write", races::read_and_write);
  bind(m, "read_partly_written", races::read_partly_written);
  bind(m, "reuse", races::reuse);
}

#endif

}  // namespace
}  // namespace minicnn

PYBIND11_MODULE(MINICNN_MODULE, m) {
  using namespace minicnn;
  m.attr("architectures") = MINICNN_ARCHITECTURES;
  m.attr("cuda_version") = MINICNN_CUDA_VERSION;
  m.attr("signatures") = py::dict();
  m.attr("shape_fields") = py::dict();
  bind_shape<ConvShape>(m);
  bind_shape<GemmShape>(m);
  bind_shape<PoolShape>(m);
  bind_shape<Schedule>(m);
  bind_kernels(m);
  bind_index_maps(submodule(m, "index_maps"));
#ifdef MINICNN_NATIVE
  m.def("instruction_set", instruction_set);
  m.def("instruction_sets", instruction_sets);
  m.def("thread_count", thread_count);
  m.def("set_thread_count", set_thread_count);
  py::module_ pictures = submodule(m, "pictures");
  bind(pictures, "resize", resize);
#else
  bind_device_kernels(m);
#endif
#if defined(MINICNN_EMULATED) || defined(MINICNN_PROBES)
  bind_instructions(submodule(m, "instructions"));
#endif
#ifdef MINICNN_EMULATED
  emulation::bind_emulation(m);
  bind_probes(submodule(m, "probes"));
#endif
#ifdef MINICNN_CHECKED
  bind_races(submodule(m, "races"));
#endif
}
