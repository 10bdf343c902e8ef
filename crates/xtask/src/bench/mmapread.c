/* mmapread FILE: maps the file, reads a byte of every page, prints their sum. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
	struct stat st;
	unsigned long sum = 0;
	int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;
	if (fd < 0 || fstat(fd, &st) < 0) {
		perror("mmapread");
		return 1;
	}
	const unsigned char *map = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	for (off_t at = 0; at < st.st_size; at += 4096)
		sum += map[at];
	printf("%lu\n", sum);
	return 0;
}
