// The threads of the native kernels: parallel(count, grain, body).
//
// A pool of our own on std::thread, not OpenMP: the thread sanitizer understands it, it needs no library, two OpenMP
// runtimes in one process (PyTorch brings one) spin against each other, and a forked child can start anew.
//
// Work is cut into shares that depend on the count and on the number of threads alone, so that sums come out with the
// same bits whoever computed them. Share 0 is the caller's; each other one belongs to one thread, which finds in its
// cache what it left there, but the caller takes over a share whose thread has not begun when its own is done: a thread
// that sleeps, or that another program has pushed aside, delays nobody. Threads wait for the next op awake for a short
// time, as long as there is a core for each, then asleep. Kernels that are called while others run, from a second
// thread of Python or from within a share, compute their shares one after the other, with the same result.
#pragma once
#include <algorithm>
#include <cstdint>

namespace minicnn {

int thread_count();
void set_thread_count(int count);  // at least 1

// run(body, share) for every 0 <= share < shares, on as many threads; returns when all are done. No exception leaves
// a body.
void run_shares(int shares, void (*run)(const void* body, int share), const void* body);

// body(share) for every 0 <= share < shares.
template <class Body>
void run_shares(int shares, const Body& body) {
  run_shares(shares, [](const void* opaque, int share) { (*static_cast<const Body*>(opaque))(share); }, &body);
}

// How many shares are worth it where each should have at least `grain` of `count` items: at least one.
inline int share_count(int64_t count, int64_t grain) {
  return int(std::clamp<int64_t>(count / std::max<int64_t>(grain, 1), 1, thread_count()));
}

// The items [begin, end) of one share.
struct Share {
  int64_t begin, end;
};

// Shares that begin at multiples of `unit`.
inline Share share_of(int64_t count, int share, int shares, int64_t unit = 1) {
  const int64_t units = (count + unit - 1) / unit;
  return {std::min(count, units * share / shares * unit), std::min(count, units * (share + 1) / shares * unit)};
}

// body(begin, end) over shares of [0, count), each of at least `grain` items, and each but the last a multiple of
// `unit`.
template <class Body>
void parallel(int64_t count, int64_t grain, int64_t unit, const Body& body) {
  const int shares = share_count(count, grain);
  run_shares(shares, [&](int share) {
    const auto [begin, end] = share_of(count, share, shares, unit);
    if (begin < end) body(begin, end);
  });
}
template <class Body>
void parallel(int64_t count, int64_t grain, const Body& body) {
  parallel(count, grain, 1, body);
}

}  // namespace minicnn
