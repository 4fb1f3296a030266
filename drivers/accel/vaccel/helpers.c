// SPDX-License-Identifier: GPL-2.0-only
/*
 * Inline functions and macros of the kernel as functions that Rust can call. One statement each, or
 * nearly; no logic lives here.
 */

#include <linux/cgroup_dmem.h>
#include <linux/completion.h>
#include <linux/devcoredump.h>
#include <linux/dma-direct.h>
#include <linux/dma-fence-chain.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/hyperv.h>
#include <linux/iommu-dma.h>
#include <linux/io_uring/cmd.h>
#include <linux/ioport.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/signal.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/swap.h>
#include <linux/swiotlb.h>
#include <linux/workqueue.h>

#include <asm/mshyperv.h>

#include <drm/drm_device.h>
#include <drm/drm_file.h>
#include <drm/drm_gem.h>
#include <drm/drm_gem_shmem_helper.h>
#include <drm/drm_syncobj.h>
#include <drm/drm_vma_manager.h>

#include "helpers.h"

void vaccel_drm_gem_object_get(struct drm_gem_object *obj)
{
	drm_gem_object_get(obj);
}

void vaccel_drm_gem_object_put(struct drm_gem_object *obj)
{
	drm_gem_object_put(obj);
}

bool vaccel_drm_file_is_open(struct drm_file *file)
{
	return file->filp && file_count(file->filp);
}

bool vaccel_drm_gem_object_is_shared(struct drm_gem_object *obj)
{
	return drm_gem_object_is_shared_for_memory_stats(obj);
}

/* The function may leave an error or a mount that is gone where shmem objects look for theirs. */
int vaccel_drm_gem_huge_mnt_create(struct drm_device *dev)
{
	int ret = 0;

#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	ret = drm_gem_huge_mnt_create(dev, "within_size") ?: PTR_ERR_OR_ZERO(dev->huge_mnt);
	if (ret)
		dev->huge_mnt = NULL;
#endif
	return ret;
}

struct dmem_cgroup_region *vaccel_dmem_cgroup_register_region(struct drm_device *dev,
							      const char *name, u64 size)
{
	const struct dmem_cgroup_init init = { .size = size };

	return dmem_cgroup_register_region(&init, "drm/%s/%s", dev->unique, name);
}

void vaccel_dmem_cgroup_unregister_region(struct dmem_cgroup_region *region)
{
	dmem_cgroup_unregister_region(region);
}

int vaccel_dmem_cgroup_try_charge(struct dmem_cgroup_region *region, u64 size,
				  struct dmem_cgroup_pool_state **pool)
{
	return dmem_cgroup_try_charge(region, size, pool, NULL);
}

void vaccel_dmem_cgroup_uncharge(struct dmem_cgroup_pool_state *pool, u64 size)
{
	dmem_cgroup_uncharge(pool, size);
}

u64 vaccel_drm_vma_node_offset_addr(struct drm_gem_object *obj)
{
	return drm_vma_node_offset_addr(&obj->vma_node);
}

void vaccel_drm_gem_shmem_object_print_info(struct drm_printer *p, unsigned int indent,
					    const struct drm_gem_object *obj)
{
	drm_gem_shmem_object_print_info(p, indent, obj);
}

void vaccel_drm_gem_shmem_object_unpin(struct drm_gem_object *obj)
{
	drm_gem_shmem_object_unpin(obj);
}

struct sg_table *vaccel_drm_gem_shmem_object_get_sg_table(struct drm_gem_object *obj)
{
	return drm_gem_shmem_object_get_sg_table(obj);
}

int vaccel_drm_gem_shmem_object_vmap(struct drm_gem_object *obj, struct iosys_map *map)
{
	return drm_gem_shmem_object_vmap(obj, map);
}

void vaccel_drm_gem_shmem_object_vunmap(struct drm_gem_object *obj, struct iosys_map *map)
{
	drm_gem_shmem_object_vunmap(obj, map);
}

int vaccel_drm_gem_shmem_object_mmap(struct drm_gem_object *obj, struct vm_area_struct *vma)
{
	return drm_gem_shmem_object_mmap(obj, vma);
}

unsigned long vaccel_totalram_pages(void)
{
	return totalram_pages();
}

unsigned long vaccel_page_to_pfn(const struct page *page)
{
	return page_to_pfn(page);
}

bool vaccel_page_is_pmd_mappable(struct page *page)
{
	return folio_test_pmd_mappable(page_folio(page));
}

void vaccel_page_mark_accessed(struct page *page)
{
	folio_mark_accessed(page_folio(page));
}

void vaccel_page_mark_dirty(struct page *page)
{
	folio_mark_dirty(page_folio(page));
}

/* Whether the DMA layer translates no address of @dev and copies no memory, wherever that is. */
bool vaccel_dma_is_identity(struct device *dev)
{
	return !get_dma_ops(dev) && !use_dma_iommu(dev) && !is_swiotlb_force_bounce(dev) &&
	       !dma_addressing_limited(dev);
}

phys_addr_t vaccel_dma_to_phys(struct device *dev, dma_addr_t addr)
{
	return dma_to_phys(dev, addr);
}

/* Not every exporter says which page it is; CONFIG_DMABUF_DEBUG hides it. */
bool vaccel_sg_dma_is_at(struct scatterlist *sg, phys_addr_t phys)
{
	return !sg_dma_is_swiotlb(sg) && !sg_dma_is_bus_address(sg) &&
	       (!sg_page(sg) || sg_phys(sg) == phys);
}

bool vaccel_is_ram(phys_addr_t start, size_t size)
{
	return pfn_valid(PHYS_PFN(start)) &&
	       region_intersects(start, size, IORESOURCE_SYSTEM_RAM, IORES_DESC_NONE) ==
	       REGION_INTERSECTS;
}

void vaccel_memcpy(void *dst, const void *src, size_t len)
{
	memcpy(dst, src, len);
}

void vaccel_drm_unmap_range(struct drm_device *dev, u64 start, size_t size)
{
	unmap_mapping_range(dev->anon_inode->i_mapping, start, size, 1);
}

void vaccel_vma_map_io(struct vm_area_struct *vma)
{
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
}

pgprot_t vaccel_pgprot_writecombine(pgprot_t prot)
{
	return pgprot_writecombine(prot);
}

/* The file keeps this module until its reference is put, which is not before the fault is over. */
struct file *vaccel_fault_unlock(struct vm_fault *vmf)
{
	struct file *file = get_file(vmf->vma->vm_file);

	release_fault_lock(vmf);
	return file;
}

/* The page protection stays what the memory type of the frame makes of it: cached by default. */
void vaccel_vma_map_io_read_only(struct vm_area_struct *vma)
{
	vm_flags_mod(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP,
		     VM_MAYWRITE | VM_MAYEXEC);
}

struct dma_fence_chain *vaccel_dma_fence_chain_alloc(void)
{
	return dma_fence_chain_alloc();
}

void vaccel_dma_fence_chain_free(struct dma_fence_chain *chain)
{
	dma_fence_chain_free(chain);
}

u64 vaccel_dma_fence_chain_seqno(struct dma_fence *fence)
{
	return to_dma_fence_chain(fence) ? fence->seqno : 0;
}

void vaccel_dma_fence_get(struct dma_fence *fence)
{
	dma_fence_get(fence);
}

void vaccel_dma_fence_put(struct dma_fence *fence)
{
	dma_fence_put(fence);
}

bool vaccel_dma_fence_is_signaled(struct dma_fence *fence)
{
	return dma_fence_is_signaled(fence);
}

/* dma_fence_get_status() without the lock of the fence. Whoever signals it sets the error before. */
int vaccel_dma_fence_error(struct dma_fence *fence)
{
	return test_bit_acquire(DMA_FENCE_FLAG_SIGNALED_BIT, &fence->flags) ?
	       READ_ONCE(fence->error) : 0;
}

void vaccel_dma_fence_set_error(struct dma_fence *fence, int error)
{
	dma_fence_set_error(fence, error);
}

bool vaccel_dma_fence_begin_signalling(void)
{
	return dma_fence_begin_signalling();
}

void vaccel_dma_fence_end_signalling(bool cookie)
{
	dma_fence_end_signalling(cookie);
}

void vaccel_drm_syncobj_get(struct drm_syncobj *obj)
{
	drm_syncobj_get(obj);
}

void vaccel_drm_syncobj_put(struct drm_syncobj *obj)
{
	drm_syncobj_put(obj);
}

struct dma_fence *vaccel_drm_syncobj_fence_get(struct drm_syncobj *obj)
{
	return drm_syncobj_fence_get(obj);
}

void vaccel_dma_resv_lock(struct dma_resv *resv)
{
	/* Without a context there is nothing to back off for. */
	dma_resv_lock(resv, NULL);
}

enum dma_resv_usage vaccel_dma_resv_usage_rw(bool write)
{
	return dma_resv_usage_rw(write);
}

void vaccel_dev_coredumpv(struct device *dev, void *data, size_t len)
{
	dev_coredumpv(dev, data, len, GFP_KERNEL);
}

void vaccel_allow_kernel_signal(int sig)
{
	allow_kernel_signal(sig);
}

unsigned int vaccel_memalloc_noreclaim_save(void)
{
	return memalloc_noreclaim_save();
}

void vaccel_memalloc_noreclaim_restore(unsigned int flags)
{
	memalloc_noreclaim_restore(flags);
}

void vaccel_init_completion(struct completion *x)
{
	init_completion(x);
}

void vaccel_reinit_completion(struct completion *x)
{
	reinit_completion(x);
}

struct vmpacket_descriptor *vaccel_hv_pkt_iter_next(struct vmbus_channel *channel,
						    const struct vmpacket_descriptor *pkt)
{
	return hv_pkt_iter_next(channel, pkt);
}

void *vaccel_hv_pkt_data(const struct vmpacket_descriptor *pkt)
{
	return hv_pkt_data(pkt);
}

u32 vaccel_hv_pkt_datalen(const struct vmpacket_descriptor *pkt)
{
	return hv_pkt_datalen(pkt);
}

void vaccel_set_channel_pending_send_size(struct vmbus_channel *channel, u32 size)
{
	set_channel_pending_send_size(channel, size);
}

bool vaccel_hv_is_isolated(void)
{
	return hv_is_isolation_supported();
}

void vaccel_flush_workqueue(struct workqueue_struct *wq)
{
	flush_workqueue(wq);
}

struct workqueue_struct *vaccel_alloc_workqueue(const char *name, unsigned int flags,
						int max_active)
{
	return alloc_workqueue("%s", flags, max_active, name);
}

void vaccel_current_comm(char *name)
{
	strscpy_pad(name, current->comm, TASK_COMM_LEN);
}

unsigned long vaccel_spin_lock_irqsave(spinlock_t *lock)
{
	unsigned long flags;

	spin_lock_irqsave(lock, flags);
	return flags;
}

void vaccel_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags)
{
	spin_unlock_irqrestore(lock, flags);
}

void vaccel_virt_mb(void)
{
	/* Whatever the caller orders. */
	virt_mb();
}

/* Tells the host of what was written from @old_write on, unless it is reading, as the core does. */
void vaccel_hv_signal_on_write(u32 old_write, struct vmbus_channel *channel)
{
	const struct hv_ring_buffer *ring = channel->outbound.ring_buffer;

	/* The index is written before it is read whether the host wants to know. */
	virt_mb();
	if (READ_ONCE(ring->interrupt_mask))
		return;
	/* And that before how far the host has read. */
	virt_rmb();
	if (old_write == READ_ONCE(ring->read_index)) {
		++channel->intr_out_empty;
		vmbus_setevent(channel);
	}
}

bool vaccel_current_is_plugged(void)
{
	return current->plug;
}

u32 vaccel_io_uring_cmd_op(const struct io_uring_cmd *cmd)
{
	return cmd->cmd_op;
}

u32 vaccel_io_uring_cmd_flags(const struct io_uring_cmd *cmd)
{
	return cmd->flags & ~(IORING_URING_CMD_CANCELABLE | IORING_URING_CMD_REISSUE);
}

u64 vaccel_io_uring_cmd_user_data(struct io_uring_cmd *cmd)
{
	return cmd_to_io_kiocb(cmd)->cqe.user_data;
}

struct file *vaccel_io_uring_cmd_file(const struct io_uring_cmd *cmd)
{
	return cmd->file;
}

/* The entry may lie in memory that user space changes: it is copied once, and not looked at again. */
void vaccel_io_uring_cmd_read(const struct io_uring_cmd *cmd, void *to, size_t len)
{
	memcpy(to, cmd->sqe->cmd, len);
	barrier();
}

struct vaccel_uring_pdu *vaccel_io_uring_cmd_pdu(struct io_uring_cmd *cmd)
{
	return io_uring_cmd_to_pdu(cmd, struct vaccel_uring_pdu);
}

void vaccel_io_uring_cmd_mark_cancelable(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	io_uring_cmd_mark_cancelable(cmd, issue_flags);
}

static void vaccel_io_uring_cmd_work(struct io_tw_req tw_req, io_tw_token_t tw)
{
	struct io_uring_cmd *cmd = io_uring_cmd_from_tw(tw_req);

	vaccel_io_uring_cmd_pdu(cmd)->work(cmd);
}

void vaccel_io_uring_cmd_do_in_task_lazy(struct io_uring_cmd *cmd)
{
	io_uring_cmd_do_in_task_lazy(cmd, vaccel_io_uring_cmd_work);
}

void vaccel_io_uring_cmd_done32(struct io_uring_cmd *cmd, s32 ret, u64 extra,
				unsigned int issue_flags)
{
	io_uring_cmd_done32(cmd, ret, extra, issue_flags);
}
