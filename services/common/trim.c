/* trim.c - gives back the pages that only the start needed. */
#include "common/trim.h"
#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* Only segments that are executable and not writable: they are backed by their file and never dirty, so dropping them
 * loses nothing. Read-only data is left alone: relocations have been written into some of it. */
static int trim_object(struct dl_phdr_info *info, size_t size, void *ctx)
{
    (void)size;
    const uintptr_t page = *(const uintptr_t *)ctx;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X) || (p->p_flags & PF_W))
            continue;
        uintptr_t from = (info->dlpi_addr + p->p_vaddr) & ~(page - 1);
        uintptr_t to = (info->dlpi_addr + p->p_vaddr + p->p_memsz + page - 1) & ~(page - 1);
        (void)madvise((void *)from, to - from, MADV_DONTNEED);
    }
    return 0;
}

void trim_startup_pages(void)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    (void)dl_iterate_phdr(trim_object, &page);
    (void)malloc_trim(0);
}
