/* SPDX-License-Identifier: GPL-2.0-only */

/* Inline functions and macros of the kernel as functions that Rust can call. */

#ifndef _VACCEL_HELPERS_H_
#define _VACCEL_HELPERS_H_

#include <linux/dma-resv.h>
#include <linux/pgtable.h>
#include <linux/spinlock_types.h>
#include <linux/types.h>

struct address_space;
struct completion;
struct device;
struct dma_fence;
struct dma_fence_chain;
struct dmem_cgroup_pool_state;
struct dmem_cgroup_region;
struct drm_device;
struct drm_file;
struct drm_gem_object;
struct drm_printer;
struct drm_syncobj;
struct file;
struct io_uring_cmd;
struct iosys_map;
struct page;
struct scatterlist;
struct sg_table;
struct vm_area_struct;
struct vm_fault;
struct vmbus_channel;
struct vmpacket_descriptor;
struct workqueue_struct;

void vaccel_drm_gem_object_get(struct drm_gem_object *obj);
void vaccel_drm_gem_object_put(struct drm_gem_object *obj);
bool vaccel_drm_file_is_open(struct drm_file *file);
bool vaccel_drm_gem_object_is_shared(struct drm_gem_object *obj);
int vaccel_drm_gem_huge_mnt_create(struct drm_device *dev);
struct dmem_cgroup_region *vaccel_dmem_cgroup_register_region(struct drm_device *dev,
							      const char *name, u64 size);
void vaccel_dmem_cgroup_unregister_region(struct dmem_cgroup_region *region);
int vaccel_dmem_cgroup_try_charge(struct dmem_cgroup_region *region, u64 size,
				  struct dmem_cgroup_pool_state **pool);
void vaccel_dmem_cgroup_uncharge(struct dmem_cgroup_pool_state *pool, u64 size);
u64 vaccel_drm_vma_node_offset_addr(struct drm_gem_object *obj);

void vaccel_drm_gem_shmem_object_print_info(struct drm_printer *p, unsigned int indent,
					    const struct drm_gem_object *obj);
void vaccel_drm_gem_shmem_object_unpin(struct drm_gem_object *obj);
struct sg_table *vaccel_drm_gem_shmem_object_get_sg_table(struct drm_gem_object *obj);
int vaccel_drm_gem_shmem_object_vmap(struct drm_gem_object *obj, struct iosys_map *map);
void vaccel_drm_gem_shmem_object_vunmap(struct drm_gem_object *obj, struct iosys_map *map);
int vaccel_drm_gem_shmem_object_mmap(struct drm_gem_object *obj, struct vm_area_struct *vma);

unsigned long vaccel_totalram_pages(void);
unsigned long vaccel_page_to_pfn(const struct page *page);
bool vaccel_page_is_pmd_mappable(struct page *page);
void vaccel_page_mark_accessed(struct page *page);
void vaccel_page_mark_dirty(struct page *page);
bool vaccel_dma_is_identity(struct device *dev);
phys_addr_t vaccel_dma_to_phys(struct device *dev, dma_addr_t addr);
bool vaccel_sg_dma_is_at(struct scatterlist *sg, phys_addr_t phys);
bool vaccel_is_ram(phys_addr_t start, size_t size);
void vaccel_memcpy(void *dst, const void *src, size_t len);

void vaccel_drm_unmap_range(struct drm_device *dev, u64 start, size_t size);
void vaccel_vma_map_io(struct vm_area_struct *vma);
pgprot_t vaccel_pgprot_writecombine(pgprot_t prot);
struct file *vaccel_fault_unlock(struct vm_fault *vmf);
void vaccel_vma_map_io_read_only(struct vm_area_struct *vma);

struct dma_fence_chain *vaccel_dma_fence_chain_alloc(void);
void vaccel_dma_fence_chain_free(struct dma_fence_chain *chain);
u64 vaccel_dma_fence_chain_seqno(struct dma_fence *fence);
void vaccel_dma_fence_get(struct dma_fence *fence);
void vaccel_dma_fence_put(struct dma_fence *fence);
bool vaccel_dma_fence_is_signaled(struct dma_fence *fence);
int vaccel_dma_fence_error(struct dma_fence *fence);
void vaccel_dma_fence_set_error(struct dma_fence *fence, int error);
bool vaccel_dma_fence_begin_signalling(void);
void vaccel_dma_fence_end_signalling(bool cookie);
void vaccel_drm_syncobj_get(struct drm_syncobj *obj);
void vaccel_drm_syncobj_put(struct drm_syncobj *obj);
struct dma_fence *vaccel_drm_syncobj_fence_get(struct drm_syncobj *obj);

void vaccel_dma_resv_lock(struct dma_resv *resv);
enum dma_resv_usage vaccel_dma_resv_usage_rw(bool write);

void vaccel_dev_coredumpv(struct device *dev, void *data, size_t len);

void vaccel_allow_kernel_signal(int sig);
unsigned int vaccel_memalloc_noreclaim_save(void);
void vaccel_memalloc_noreclaim_restore(unsigned int flags);

void vaccel_init_completion(struct completion *x);
void vaccel_reinit_completion(struct completion *x);

struct vmpacket_descriptor *vaccel_hv_pkt_iter_next(struct vmbus_channel *channel,
						    const struct vmpacket_descriptor *pkt);
void *vaccel_hv_pkt_data(const struct vmpacket_descriptor *pkt);
u32 vaccel_hv_pkt_datalen(const struct vmpacket_descriptor *pkt);
void vaccel_set_channel_pending_send_size(struct vmbus_channel *channel, u32 size);
void vaccel_hv_signal_on_write(u32 old_write, struct vmbus_channel *channel);
bool vaccel_hv_is_isolated(void);
unsigned long vaccel_spin_lock_irqsave(spinlock_t *lock);
void vaccel_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags);
void vaccel_virt_mb(void);

void vaccel_flush_workqueue(struct workqueue_struct *wq);
struct workqueue_struct *vaccel_alloc_workqueue(const char *name, unsigned int flags,
						int max_active);

void vaccel_current_comm(char *name);

/* What a pending command keeps in its pdu. */
struct vaccel_uring_pdu {
	void (*work)(struct io_uring_cmd *cmd);
	void (*cancel)(struct io_uring_cmd *cmd, unsigned int issue_flags);
	void *data;
};

bool vaccel_current_is_plugged(void);

u32 vaccel_io_uring_cmd_op(const struct io_uring_cmd *cmd);
u32 vaccel_io_uring_cmd_flags(const struct io_uring_cmd *cmd);
u64 vaccel_io_uring_cmd_user_data(struct io_uring_cmd *cmd);
struct file *vaccel_io_uring_cmd_file(const struct io_uring_cmd *cmd);
void vaccel_io_uring_cmd_read(const struct io_uring_cmd *cmd, void *to, size_t len);
struct vaccel_uring_pdu *vaccel_io_uring_cmd_pdu(struct io_uring_cmd *cmd);
void vaccel_io_uring_cmd_mark_cancelable(struct io_uring_cmd *cmd, unsigned int issue_flags);
void vaccel_io_uring_cmd_do_in_task_lazy(struct io_uring_cmd *cmd);
void vaccel_io_uring_cmd_done32(struct io_uring_cmd *cmd, s32 ret, u64 extra,
				unsigned int issue_flags);

#endif /* _VACCEL_HELPERS_H_ */
