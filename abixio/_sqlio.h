/* System calls for SQLite that do not hang, do not kill and are few.
 *
 * SQLite's Unix VFS makes its calls through a table in which any can be replaced; these are put there.
 *
 * sqlio_pread: on a thread that has called sqlio_begin, a page that is not in the page cache is refused with EAGAIN instead of
 * being waited for. On all others, and where kernel or file system do not know RWF_NOWAIT, it is pread.
 *
 * sqlio_mmap: SQLite maps its -shm file and stores into the map. Where that file has holes and the disk is full, such a store is
 * a SIGBUS. SQLite writes one byte into each page to prevent that, which is too little where blocks are smaller than pages
 * (ext4 makes them of 1 KiB on small disks). Here all blocks are allocated before, and ENOSPC is an error.
 *
 * sqlio_pwrite: a commit writes each page to the WAL by two calls, a frame's header of 24 bytes and the page, which is most of what
 * a commit costs. On a thread that has called sqlio_gather they are put together and written when the last one of the
 * transaction is there; the header says which that is (sqlite.org/fileformat.html, 4.1). So nothing is held back when
 * SQLite syncs the file or tells readers of the transaction, which it does after that. Whatever else is read or written ends it.
 *
 * sqlio_mmap and sqlio_munmap also remember where the start of each -shm file is mapped. There stands the header of the WAL index,
 * twice (sqlite.org/walformat.html, 2.1): every commit, of whatever connection in whatever process, changes it. Whoever finds
 * it as it was knows without a lock and without a call that nothing was committed meanwhile.
 */
#ifndef ABIXIO_SQLIO_H
#define ABIXIO_SQLIO_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
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

#define SQLIO_FRAME 24   /* bytes of a frame's header in the WAL */
#define SQLIO_WAL 32     /* bytes of the WAL's own header, before all frames */
#define SQLIO_PAGE 4096  /* of a catalog; one of another size is written as SQLite says */
#define SQLIO_ROOM (64 * (SQLIO_FRAME + SQLIO_PAGE)) /* gathered at most: more does not make it cheaper */

typedef struct {
    size_t used;
    int fd;
    off_t start;
    int last; /* whether the frame whose page comes next ends the transaction */
    unsigned char room[SQLIO_ROOM];
} sqlio_frames;

static __thread sqlio_frames *sqlio_gathered; /* 0: nothing is held back */

/* Write all that was held back: 0, or -1 with errno. Either way nothing is, afterwards. */
static int sqlio_flush(void) {
    sqlio_frames *frames = sqlio_gathered;
    size_t done = 0;
    while (done < frames->used) {
        ssize_t wrote = pwrite(frames->fd, frames->room + done, frames->used - done, frames->start + (off_t)done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote == 0)
            errno = ENOSPC;
        if (wrote <= 0)
            break;
        done += (size_t)wrote;
    }
    int whole = done == frames->used;
    frames->used = 0;
    return whole ? 0 : -1;
}

/* From now on this thread's frames are gathered there, until something else happens or sqlio_scatter. */
static void sqlio_gather(void *frames) {
    sqlio_gathered = frames;
    sqlio_gathered->used = 0;
}

/* The end of it: -1 when something was still held back and could not be written. */
static int sqlio_scatter(void) {
    int failed = sqlio_gathered ? sqlio_flush() : 0;
    sqlio_gathered = 0;
    return failed;
}

/* Whether that is what comes next: a header at its place, or the page behind it. */
static int sqlio_follows(const sqlio_frames *frames, int fd, size_t length, off_t offset) {
    int in_line = !frames->used || (fd == frames->fd && offset == frames->start + (off_t)frames->used);
    if (frames->used % (SQLIO_FRAME + SQLIO_PAGE) == SQLIO_FRAME)
        return in_line && length == SQLIO_PAGE;
    return in_line && length == SQLIO_FRAME && offset >= SQLIO_WAL && (offset - SQLIO_WAL) % (SQLIO_FRAME + SQLIO_PAGE) == 0;
}

static ssize_t sqlio_pwrite(int fd, const void *buffer, size_t length, off_t offset) {
    sqlio_frames *frames = sqlio_gathered;
    if (frames && !sqlio_follows(frames, fd, length, offset) && sqlio_scatter() != 0)
        return -1;
    if (!sqlio_gathered)
        return pwrite(fd, buffer, length, offset);
    if (!frames->used) {
        frames->fd = fd;
        frames->start = offset;
    }
    memcpy(frames->room + frames->used, buffer, length);
    frames->used += length;
    if (length == SQLIO_FRAME) {
        uint32_t pages; /* of the database after the transaction, in its last frame; else 0 */
        memcpy(&pages, (const unsigned char *)buffer + 4, sizeof pages);
        frames->last = pages != 0;
    } else if ((frames->last || frames->used == SQLIO_ROOM) && sqlio_flush() != 0) {
        return -1;
    }
    return (ssize_t)length;
}

static ssize_t sqlio_pread(int fd, void *buffer, size_t length, off_t offset) {
    if (sqlio_gathered && sqlio_scatter() != 0)
        return -1;
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
