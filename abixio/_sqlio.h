/* System calls for SQLite that do not hang and do not kill.
 *
 * SQLite's Unix VFS makes its calls through a table in which any can be replaced; these two are put there.
 *
 * sqlio_pread: on a thread that has called sqlio_begin, a page that is not in the page cache is refused with EAGAIN instead of
 * being waited for. On all others, and where kernel or file system do not know RWF_NOWAIT, it is pread.
 *
 * sqlio_mmap: SQLite maps its -shm file and stores into the map. Where that file has holes and the disk is full, such a store is
 * a SIGBUS. SQLite writes one byte into each page to prevent that, which is too little where blocks are smaller than pages
 * (ext4 makes them of 1 KiB on small disks). Here all blocks are allocated before, and ENOSPC is an error.
 */
#ifndef ABIXIO_SQLIO_H
#define ABIXIO_SQLIO_H

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static __thread int sqlio_wanted;
static __thread int sqlio_refused; /* sticks from the first EAGAIN to sqlio_end */

static void sqlio_begin(void) {
    sqlio_wanted = 1;
}

static int sqlio_end(void) {
    int refused = sqlio_refused;
    sqlio_wanted = 0;
    sqlio_refused = 0;
    return refused;
}

static ssize_t sqlio_pread(int fd, void *buffer, size_t length, off_t offset) {
#ifdef RWF_NOWAIT
    if (sqlio_wanted) {
        struct iovec whole = {buffer, length};
        ssize_t got = preadv2(fd, &whole, 1, offset, RWF_NOWAIT);
        if (got >= 0)
            return got;
        if (errno == EAGAIN) {
            sqlio_refused = 1;
            return -1;
        }
        if (errno != EOPNOTSUPP && errno != ENOSYS)
            return -1;
    }
#endif
    return pread(fd, buffer, length, offset);
}

static void *sqlio_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
#ifdef __linux__
    if (fd >= 0 && (protection & PROT_WRITE) && (flags & MAP_SHARED) && fallocate(fd, 0, offset, (off_t)length) != 0
        && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
        return MAP_FAILED;
#endif
    return mmap(address, length, protection, flags, fd, offset);
}

#endif
