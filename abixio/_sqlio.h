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
 *
 * sqlio_mmap and sqlio_munmap also remember where the start of each -shm file is mapped. There stands the header of the WAL index,
 * twice (sqlite.org/walformat.html, 2.1): every commit, of whatever connection in whatever process, changes it. Whoever finds
 * it as it was knows without a lock and without a call that nothing was committed meanwhile.
 */
#ifndef ABIXIO_SQLIO_H
#define ABIXIO_SQLIO_H

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
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

#define SQLIO_INDEXES 64 /* catalogs of one process; those beyond are read without knowing whether they changed */
#define SQLIO_HEADER 48  /* bytes of one copy of the header */

static struct {
    dev_t device;
    ino_t inode;
    void *start;
} sqlio_indexes[SQLIO_INDEXES];
static volatile int sqlio_busy; /* a spin lock: it is held for some stores, a few times in the life of a process */

static void sqlio_lock(void) {
    while (__sync_lock_test_and_set(&sqlio_busy, 1))
        ;
}

static void sqlio_unlock(void) {
    __sync_lock_release(&sqlio_busy);
}

static void sqlio_note(void *start, int fd) {
    struct stat about;
    if (fstat(fd, &about) != 0)
        return;
    sqlio_lock();
    for (int i = 0; i < SQLIO_INDEXES; i++)
        if (!sqlio_indexes[i].start) {
            sqlio_indexes[i].device = about.st_dev;
            sqlio_indexes[i].inode = about.st_ino;
            sqlio_indexes[i].start = start;
            break;
        }
    sqlio_unlock();
}

static void *sqlio_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
#ifdef __linux__
    if (fd >= 0 && (protection & PROT_WRITE) && (flags & MAP_SHARED) && fallocate(fd, 0, offset, (off_t)length) != 0
        && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
        return MAP_FAILED;
#endif
    void *start = mmap(address, length, protection, flags, fd, offset);
    if (start != MAP_FAILED && fd >= 0 && (flags & MAP_SHARED) && offset == 0 && length >= 2 * SQLIO_HEADER)
        sqlio_note(start, fd);
    return start;
}

static int sqlio_munmap(void *address, size_t length) {
    sqlio_lock();
    for (int i = 0; i < SQLIO_INDEXES; i++)
        if (sqlio_indexes[i].start == address)
            sqlio_indexes[i].start = 0;
    sqlio_unlock();
    return munmap(address, length);
}

/* Where the -shm file of that identity is mapped; 0 when it is not. */
static void *sqlio_index(unsigned long device, unsigned long inode) {
    void *start = 0;
    sqlio_lock();
    for (int i = 0; i < SQLIO_INDEXES; i++)
        if (sqlio_indexes[i].start && sqlio_indexes[i].device == device && sqlio_indexes[i].inode == inode)
            start = sqlio_indexes[i].start;
    sqlio_unlock();
    return start;
}

/* Copy the header from there. False while a commit is changing it: its second copy is written first. */
static int sqlio_header(const void *start, void *header) {
    unsigned char second[SQLIO_HEADER];
    memcpy(header, start, SQLIO_HEADER);
    __sync_synchronize();
    memcpy(second, (const unsigned char *)start + SQLIO_HEADER, SQLIO_HEADER);
    return memcmp(header, second, SQLIO_HEADER) == 0;
}

#endif
