/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_damage_test.c - random damage to the arena file. */
#include "test/unit/flowstate_arena_help.h"

#include <stdlib.h>
#include <time.h>

/* ---- random damage --------------------------------------------------------------------------------------------- */

enum { KEPT = 256 };
struct kept {
	struct tuple t[2];
	char site[FS_NAME_MAX + 1], other[FS_NAME_MAX + 1];
	bool live;
};

/* Whatever is in the table now was there before, under the same names. */
static void assert_nothing_new(struct world *w, const struct kept *kept)
{
	uint32_t cursor = 0, flow;
	struct fs_info info;
	while (fs_next(w->fs, &cursor, 100000, &flow, &info) == 1) {
		assert_true(flow < KEPT);
		assert_string_equal(fs_name(w->fs, info.half[0].realm), kept[flow].site);
		assert_string_equal(fs_name(w->fs, info.half[1].realm), kept[flow].other);
		assert_tuple(info.half[0].t, kept[flow].t[0]);
		assert_tuple(info.half[1].t, kept[flow].t[1]);
	}
}

static void test_damage(void **state)
{
	(void)state;
	struct world w;
	static struct kept kept[KEPT];
	uint32_t cursor = 0, flow, high;
	struct fs_info info;
	uint64_t seed = (uint64_t)time(NULL);
	const char *env = getenv("ARRD_SEED");
	if (env)
		seed = strtoull(env, NULL, 0);
	print_message("ARRD_SEED=%llu\n", (unsigned long long)seed);
	srandom((unsigned)seed);

	world_new(&w, path, 300);
	fill(&w);
	high = w.fs->arena.header->high;
	assert_true(high <= KEPT);
	while (fs_next(w.fs, &cursor, 100000, &flow, &info) == 1) {
		kept[flow].t[0] = info.half[0].t;
		kept[flow].t[1] = info.half[1].t;
		snprintf(kept[flow].site, sizeof(kept[flow].site), "%s", fs_name(w.fs, info.half[0].realm));
		snprintf(kept[flow].other, sizeof(kept[flow].other), "%s", fs_name(w.fs, info.half[1].realm));
	}
	size_t size = w.fs->arena.map_octets;
	uint8_t *good = malloc(size);
	memcpy(good, w.fs->arena.map, size);
	world_close(&w);

	unsigned adopted = 0, refused = 0;
	size_t names = 10 * sizeof(struct name_entry), blocks = (size_t)high * 160;
	for (unsigned round = 0; round < ROUNDS(4000); round++) {
		int fd = open(path, O_RDWR | O_CLOEXEC);
		/* Only the parts in use differ from round to round. */
		assert_int_equal(ftruncate(fd, (off_t)size), 0);
		assert_int_equal(pwrite(fd, good, NAMES_AT + names, 0), NAMES_AT + names);
		assert_int_equal(pwrite(fd, good + BLOCKS_AT, size - BLOCKS_AT, BLOCKS_AT), size - BLOCKS_AT);
		unsigned flips = 1u << random() % 10;
		for (unsigned k = 0; k < flips; k++) {
			size_t r = (size_t)random(), at;
			uint8_t v = (uint8_t)random();
			switch (round % 8) {
			case 0:
				at = r % 88; /* the header: refused, mostly */
				break;
			case 1:
			case 2:
				at = NAMES_AT + r % names;
				break;
			case 3:
				at = offsetof(struct arena_header, high) + r % 8;
				break;
			default:
				at = BLOCKS_AT + r % blocks;
			}
			/* A bit, or an octet. */
			if (k % 2)
				v = good[at] ^ (uint8_t)(1 << r % 8);
			assert_int_equal(pwrite(fd, &v, 1, (off_t)at), 1);
		}
		if (random() % 50 == 0)
			assert_int_equal(ftruncate(fd, random() % (long)size), 0);
		close(fd);
		world_open(&w);
		*(w.rep.kind == FS_OPEN_ADOPTED ? &adopted : &refused) += 1;
		check(&w);
		assert_nothing_new(&w, kept);
		bind_all(&w);
		assert_nothing_new(&w, kept);
		fs_unbind_rest(w.fs);
		if (round % 16 == 0) {
			fill(&w);
			check(&w);
			sleep_s(&w, 5);
			check(&w);
		}
		fs_close(w.fs);
	}
	print_message("adopted %u, refused %u\n", adopted, refused);
	assert_true(adopted > ROUNDS(4000) / 2 && refused > ROUNDS(4000) / 50);

	/* Noise from end to end; with a header that is believed, too. */
	for (unsigned round = 0; round < ROUNDS(60); round++) {
		uint8_t *noise = malloc(size);
		for (size_t i = 0; i + 4 <= size; i += 4) {
			long r = random() ^ random() << 16;
			memcpy(noise + i, &r, 4);
		}
		int fd = open(path, O_RDWR | O_CLOEXEC);
		assert_int_equal(ftruncate(fd, (off_t)size), 0);
		assert_int_equal(pwrite(fd, noise, size, 0), size);
		if (round % 2)
			assert_int_equal(pwrite(fd, good, 4096, 0), 4096);
		close(fd);
		free(noise);
		world_open(&w);
		assert_int_equal(w.rep.kind, round % 2 ? FS_OPEN_ADOPTED : FS_OPEN_REFUSED);
		assert_int_equal(w.rep.flows, 0);
		world_close(&w);
	}
	free(good);
}

/* What is outside of a record's checksum may be anything: a window's scale is a shift. */
static void test_windows(void **state)
{
	struct tuple t = tup(IPPROTO_TCP, "10.0.1.5", 2, WEB, 443);
	struct world w;
	uint32_t f;

	(void)state;
	world_new(&w, path, 100);
	f = begin(&w, w.site_a, w.a1, t, NULL);
	for (int d = 0; d < 2; d++)
		body_of(w.fs, f)->window[d].scale = (uint8_t)(15 + d * 240);
	body_of(w.fs, f)->syn_wscale = 255;
	fs_close(w.fs);
	world_open(&w);
	bind_all(&w);
	fs_unbind_rest(w.fs);
	assert_int_equal(w.rep.flows, 1);
	for (int d = 0; d < 2; d++)
		assert_int_equal(body_of(w.fs, f)->window[d].scale, TCP_SCALE_MAX);
	assert_int_equal(body_of(w.fs, f)->syn_wscale, TCP_SCALE_MAX + 1);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_windows),
	};
	return cmocka_run_group_tests(tests, arena_setup, arena_teardown);
}
