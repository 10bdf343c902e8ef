/* Calls for the suites that safe Rust has no word for. Exit code: 0, or the errno of the call that failed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void fail(const char *what) {
    int number = errno;
    fprintf(stderr, "%s: %s\n", what, strerror(number));
    exit(number);
}

static char *map(const char *path, int prot, int kind, size_t *length) {
    int fd = open(path, prot & PROT_WRITE && kind == MAP_SHARED ? O_RDWR : O_RDONLY);
    struct stat st;
    if (fd < 0) fail(path);
    if (fstat(fd, &st) < 0) fail("fstat");
    *length = st.st_size;
    char *data = mmap(NULL, *length, prot, kind, fd, 0);
    if (data == MAP_FAILED) fail("mmap");
    close(fd);
    return data;
}

int main(int argc, char **argv) {
    size_t length;
    if (argc >= 3 && !strcmp(argv[1], "mapcat")) {
        /* All files are mapped at once, then printed: equal pages would show as equal text. */
        char *maps[64];
        size_t lengths[64];
        int n = argc - 2 < 64 ? argc - 2 : 64;
        for (int i = 0; i < n; i++) maps[i] = map(argv[i + 2], PROT_READ, MAP_SHARED, &lengths[i]);
        for (int i = 0; i < n; i++) fwrite(maps[i], 1, lengths[i], stdout);
        return 0;
    }
    if (argc == 4 && !strcmp(argv[1], "mapwrite")) {
        char *data = map(argv[2], PROT_READ | PROT_WRITE, MAP_SHARED, &length);
        size_t n = strlen(argv[3]) < length ? strlen(argv[3]) : length;
        memcpy(data, argv[3], n);
        if (msync(data, length, MS_SYNC) < 0) fail("msync");
        if (munmap(data, length) < 0) fail("munmap");
        return 0;
    }
    if (argc == 4 && !strcmp(argv[1], "mapprivate")) {
        char *data = map(argv[2], PROT_READ | PROT_WRITE, MAP_PRIVATE, &length);
        size_t n = strlen(argv[3]) < length ? strlen(argv[3]) : length;
        memcpy(data, argv[3], n);
        fwrite(data, 1, length, stdout);
        return 0;
    }
    if (argc == 4 && !strcmp(argv[1], "directwrite")) {
        /* Whole blocks of the given letter, with O_DIRECT; then a buffered read through another descriptor. */
        int fd = open(argv[2], O_RDWR | O_CREAT | O_DIRECT, 0644);
        void *block;
        char seen[4096];
        if (fd < 0) fail("open O_DIRECT");
        if (posix_memalign(&block, 4096, 4096)) fail("memalign");
        memset(block, argv[3][0], 4096);
        if (pwrite(fd, block, 4096, 0) != 4096) fail("pwrite");
        int buffered = open(argv[2], O_RDONLY);
        if (buffered < 0) fail("open");
        if (pread(buffered, seen, 4096, 0) != 4096) fail("pread");
        memset(block, argv[3][0] + 1, 4096);
        if (pwrite(fd, block, 4096, 0) != 4096) fail("pwrite again");
        if (pread(buffered, seen, 4096, 0) != 4096) fail("pread again");
        printf("%c%c\n", seen[0], seen[4095]);
        return 0;
    }
    fprintf(stderr, "probe: what is %s?\n", argc > 1 ? argv[1] : "nothing");
    return 99;
}
