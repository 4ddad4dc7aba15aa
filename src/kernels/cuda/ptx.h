/* One small function per Hopper instruction: barriers in shared memory, the bulk tensor copy engine (TMA), register
 * reallocation, fences. Warpgroup matrix products: wgmma.h.
 *
 * Addresses named `shared` are 32-bit shared-memory addresses (ht_shared_address). Whoever writes shared memory with
 * ordinary stores and lets TMA or wgmma read it calls ht_fence_proxy_async in each writing thread, then a barrier.
 *
 * Source: PTX ISA 9.0, sections on mbarrier, cp.async.bulk.tensor, wgmma and setmaxnreg.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef HT_KERNELS_CUDA_PTX_H
#define HT_KERNELS_CUDA_PTX_H

#include <cuda.h> /* CUtensorMap */
#include <stdint.h>

static __device__ __forceinline__ uint32_t ht_shared_address(const void *pointer) {
    return (uint32_t)__cvta_generic_to_shared(pointer);
}

/* --- Barriers in shared memory ----------------------------------------------------------------------------------- */

static __device__ __forceinline__ void ht_mbarrier_init(uint32_t shared, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared), "r"(arrivals) : "memory");
}

/* Makes initialised barriers visible to the other blocks of the cluster and to the copy engine. */
static __device__ __forceinline__ void ht_fence_mbarrier_init(void) {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* One arrival that also announces `bytes` of copies; the phase ends when all arrivals and all bytes are in. */
static __device__ __forceinline__ void ht_mbarrier_expect(uint32_t shared, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared), "r"(bytes) : "memory");
}

static __device__ __forceinline__ void ht_mbarrier_arrive(uint32_t shared) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared) : "memory");
}

/* Arrival at the barrier of the same address in block `rank` of the cluster. */
static __device__ __forceinline__ void ht_mbarrier_arrive_cluster(uint32_t shared, uint32_t rank) {
    asm volatile("{\n.reg .b32 remote;\n"
                 "mapa.shared::cluster.u32 remote, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}" ::"r"(shared),
                 "r"(rank)
                 : "memory");
}

/* Wait until the phase of this parity has ended. */
static __device__ __forceinline__ void ht_mbarrier_wait(uint32_t shared, uint32_t parity) {
    asm volatile("{\n.reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra finished;\n"
                 "bra again;\n"
                 "finished:\n}" ::"r"(shared),
                 "r"(parity)
                 : "memory");
}

/* --- Blocks and clusters ----------------------------------------------------------------------------------------- */

static __device__ __forceinline__ uint32_t ht_cluster_rank(void) {
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

static __device__ __forceinline__ void ht_cluster_sync(void) {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/* Barrier number `id` (1 to 15) among `threads` threads of the block. */
static __device__ __forceinline__ void ht_named_barrier(uint32_t id, uint32_t threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* Count as arrived at that barrier without waiting. */
static __device__ __forceinline__ void ht_named_barrier_arrive(uint32_t id, uint32_t threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

template <int REGISTERS> static __device__ __forceinline__ void ht_registers_raise(void) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

template <int REGISTERS> static __device__ __forceinline__ void ht_registers_lower(void) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

static __device__ __forceinline__ void ht_fence_proxy_async(void) {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* Programmatic dependent launch: let the next kernel of the stream start; wait for the previous one's writes. */
static __device__ __forceinline__ void ht_launch_dependents(void) {
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

static __device__ __forceinline__ void ht_wait_previous_kernel(void) {
    asm volatile("griddepcontrol.wait;" ::: "memory");
}

/* --- The bulk tensor copy engine --------------------------------------------------------------------------------- */

/* Box at element (x, y) into shared memory; its bytes count on `barrier`. Out-of-range elements become zero. */
static __device__ __forceinline__ void ht_tma_load_2d(uint32_t shared, const CUtensorMap *map, uint32_t barrier, int x,
                                                      int y) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], "
                 "[%2];" ::"r"(shared),
                 "l"((uint64_t)map), "r"(barrier), "r"(x), "r"(y)
                 : "memory");
}

/* Box at element (x, y, z, w) of a tensor of four dimensions. */
static __device__ __forceinline__ void ht_tma_load_4d(uint32_t shared, const CUtensorMap *map, uint32_t barrier, int x,
                                                      int y, int z, int w) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, "
                 "%6}], [%2];" ::"r"(shared),
                 "l"((uint64_t)map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w)
                 : "memory");
}

/* The same box into every block of `mask`, at the same address, counting on the same barrier address there. */
static __device__ __forceinline__ void ht_tma_load_2d_multicast(uint32_t shared, const CUtensorMap *map,
                                                                uint32_t barrier, int x, int y, uint16_t mask) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
                 "[%1, {%3, %4}], [%2], %5;" ::"r"(shared),
                 "l"((uint64_t)map), "r"(barrier), "r"(x), "r"(y), "h"(mask)
                 : "memory");
}

/* Box from shared memory to element (x, y); elements outside the tensor are not written. */
static __device__ __forceinline__ void ht_tma_store_2d(const CUtensorMap *map, uint32_t shared, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"((uint64_t)map),
                 "r"(shared), "r"(x), "r"(y)
                 : "memory");
}

/* The same, added to the f32 elements there. */
static __device__ __forceinline__ void ht_tma_add_2d(const CUtensorMap *map, uint32_t shared, int x, int y) {
    asm volatile(
        "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%0, {%2, %3}], [%1];" ::"l"((uint64_t)map),
        "r"(shared), "r"(x), "r"(y)
        : "memory");
}

/* The same for a stack of matrices, into the z-th: elements outside that matrix are not written. */
static __device__ __forceinline__ void ht_tma_store_3d(const CUtensorMap *map, uint32_t shared, int x, int y, int z) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"((uint64_t)map),
                 "r"(shared), "r"(x), "r"(y), "r"(z)
                 : "memory");
}

static __device__ __forceinline__ void ht_tma_add_3d(const CUtensorMap *map, uint32_t shared, int x, int y, int z) {
    asm volatile("cp.reduce.async.bulk.tensor.3d.global.shared::cta.add.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(
                     (uint64_t)map),
                 "r"(shared), "r"(x), "r"(y), "r"(z)
                 : "memory");
}

static __device__ __forceinline__ void ht_tma_store_commit(void) {
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

/* Wait until at most PENDING of this thread's stores still read shared memory. */
template <int PENDING> static __device__ __forceinline__ void ht_tma_store_wait_read(void) {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}

template <int PENDING> static __device__ __forceinline__ void ht_tma_store_wait(void) {
    asm volatile("cp.async.bulk.wait_group %0;" ::"n"(PENDING) : "memory");
}

static __device__ __forceinline__ void ht_store_shared_pair(uint32_t shared, float a, float b) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(shared), "f"(a), "f"(b) : "memory");
}

static __device__ __forceinline__ void ht_store_shared(uint32_t shared, float a) {
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(shared), "f"(a) : "memory");
}

static __device__ __forceinline__ void ht_store_shared_zeros(uint32_t shared) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(shared), "r"(0) : "memory");
}

static __device__ __forceinline__ void ht_store_shared_byte(uint32_t shared, uint32_t byte) {
    asm volatile("st.shared.u8 [%0], %1;" ::"r"(shared), "r"(byte) : "memory");
}

static __device__ __forceinline__ uint4 ht_load_shared_vector(uint32_t shared) {
    uint4 v;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(shared));
    return v;
}

static __device__ __forceinline__ float ht_load_shared(uint32_t shared) {
    float a;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(a) : "r"(shared));
    return a;
}

static __device__ __forceinline__ void ht_load_shared_pair(uint32_t shared, float &a, float &b) {
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(a), "=f"(b) : "r"(shared));
}

/* Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8. */
static __device__ __forceinline__ void ht_stmatrix_x4(uint32_t shared, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared), "r"(a), "r"(b),
                 "r"(c), "r"(d)
                 : "memory");
}

/* Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8. */
static __device__ __forceinline__ void ht_ldmatrix_x4(uint32_t shared, uint32_t *to) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared)
                 : "memory");
}

#endif
