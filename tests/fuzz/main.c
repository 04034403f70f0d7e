/* A main for fuzz targets without libFuzzer: runs each file named, or each in a directory named. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	if (!f)
		return -1;
	size_t size = 0;
	size_t room = 1 << 20;
	uint8_t *data = malloc(room);
	if (data)
		size = fread(data, 1, room, f);
	fclose(f);
	/* A copy of the exact size, so that the sanitizer sees a read past the end. */
	uint8_t *exact = data ? malloc(size ? size : 1) : NULL;
	if (exact) {
		memcpy(exact, data, size);
		LLVMFuzzerTestOneInput(exact, size);
	}
	free(exact);
	free(data);
	return exact ? 0 : -1;
}

int main(int argc, char **argv)
{
	unsigned runs = 0;
	for (int i = 1; i < argc; i++) {
		DIR *d = opendir(argv[i]);
		if (!d) {
			if (run_file(argv[i]))
				return 1;
			runs++;
			continue;
		}
		for (struct dirent *e; (e = readdir(d));) {
			char path[4096];
			if (e->d_name[0] == '.')
				continue;
			snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
			if (run_file(path))
				return 1;
			runs++;
		}
		closedir(d);
	}
	printf("%s: %u inputs\n", argv[0], runs);
	return runs > 0 ? 0 : 1;
}
