"""What happens when something goes wrong, as a page of the docs: `python tools/faults.py`.

Each row names the test that shows it; `tests/test_faults.py` looks that they are there.
"""

# What goes wrong, what becomes of it, and the test: file and function, without `test_`
FAULTS = {
    'A process ends': [
        (
            'any verb is killed at a random moment, or before any change of a file, statement or commit',
            'the same call again ends as one that nobody disturbed, by a digest of registry and store',
            'kills_all: killed_and_done_again',
        ),
        (
            'two processes do the same, one of them killed or not',
            'one archive, as from one process',
            'kills_all: two_at_once',
        ),
        (
            'two processes call `retrain` on one registry',
            'the second says what the first does, and makes nothing',
            'turns: of_two_calls_at_once_one_makes_all',
        ),
        (
            'a process that trains dies',
            'its turn is free at once; nothing has to be waited for or deleted',
            'turns: a_process_that_dies_gives_its_turn_back',
        ),
        (
            'the power goes, and the disk has not got all that was written',
            'the same call again ends as undisturbed',
            'kills_all: what_the_disk_had_not_got_when_the_power_went',
        ),
        (
            'a child of a process that holds a lock leaves the block of its parent',
            "nothing is raised, and the lock stays its parent's",
            'damaged_places: a_child_may_leave_its_parents_lock',
        ),
        (
            'workers outlive the build that was killed',
            'its dataset is not locked',
            'kills_all: workers_that_outlive_a_build_do_not_lock_it',
        ),
        (
            'the caller of `isolate=True` or of a pool is killed while its process computes, for ever and with the lock of Python held',
            'the process ends by itself',
            'dead_workers: a_worker_whose_caller_is_killed_ends_whatever_it_is_at',
        ),
        (
            '`add_stamps(isolate=True)`: the caller is killed, the process that reads for it, or both',
            'nobody is left behind; the same call again ends with the same rows and stamps',
            'kills_all: who_reads_apart_is_killed_and_nobody_is_left_behind',
        ),
        (
            'a killed writer left files behind',
            'they are swept when old, and are frozen into no version',
            'store_faults: what_killed_writers_left_is_swept_when_old',
        ),
        (
            'a server is killed after a file was sent to it, before its job is written',
            'the file is swept after a day, unless an image or a job needs it',
            'rest_ingest: what_killed_servers_left_is_swept',
        ),
        (
            'a server is killed at any moment while it takes images in or scores',
            'the next one ends as one that nobody killed, by a digest of registry, jobs and store',
            'kills_all: a_server_that_is_killed_leaves_each_job_to_the_next',
        ),
        (
            'a process that searches images is killed, as where memory runs out',
            'its file is searched by the caller; the same registry',
            'dead_workers: a_searching_process_that_is_killed_costs_nothing',
        ),
        (
            'a process that cuts or measures is killed',
            '`WorkerDied` says what to do; the same call goes on to the same version',
            'dead_workers: a_cutting_process_that_is_killed_is_said_and_the_same_call_goes_on',
        ),
        (
            'a worker of a loader is killed',
            '`WorkerDied`; a loader with its state goes on with the next batch',
            'dead_workers: a_loader_whose_worker_is_killed_says_so_and_goes_on_where_it_was',
        ),
        (
            'a process of `isolate=True` is killed, at work or while it waits',
            'reason `crashed`; or another takes the file',
            'dead_workers: an_isolated_process_that_is_killed_costs_its_file',
        ),
        (
            'a server ends three times at the same upload, or while it is cancelled',
            'the job says so, and its file goes',
            'rest_ingest: a_job_whose_server_ended_leaves_neither_file_nor_secret',
        ),
        (
            'a download is killed',
            'the next one goes on where it ended',
            'download: a_killed_download_goes_on',
        ),
    ],
    'No room, and places that are closed': [
        (
            'the disk of temporary files fills while stamps that come only once are kept',
            '`DiskFull`; the same again is done',
            'stamp_faults: a_full_disk_of_temporary_files_is_said',
        ),
        (
            'the disk fills during `add_fits`, `add_alerts`, `add_catalogue`, verdicts, a build or its publication',
            '`DiskFull` says to make room; after that the same call ends as undisturbed',
            'full_disk: a_call_on_a_full_disk_is_lost_in_words_and_done_after',
        ),
        (
            'the disk of an export or of the cache fills',
            '`DiskFull`; nothing stays behind, and the next call writes the same bytes as elsewhere',
            'full_disk: exports_and_the_cache_on_a_full_disk',
        ),
        (
            'the disk fills under a report, scores, the numbers of a watch, a verdict, an undo or a look at test',
            'in words; nothing half is left, and the same again is done',
            'full_disk_more: what_commands_and_people_write_is_whole_or_not_there',
        ),
        (
            'the disk of a model, or that of temporary files, fills',
            '`DiskFull`; the older model stays whole, and a tracked run says what it did not keep',
            'full_disk_more: a_model_is_kept_whole_or_the_older_one_stays',
        ),
        (
            'the disk of a server fills during an export, a collection or a new key',
            '507 `disk_full` in words; what only reads is answered',
            'full_disk_more: a_server_on_a_full_disk_says_so_and_reads_on',
        ),
        (
            'the folder of the cache is deleted while it is filled',
            'it is made and filled again',
            'damaged_places: a_cache_that_is_deleted_while_it_is_used_is_made_again',
        ),
        (
            'the cache is deleted under a build, a loader or its workers, up to five times',
            'what is read is fetched again; the same pixels',
            'deleted_cache: a_cache_that_is_deleted_under_workers',
        ),
        (
            'the cache is deleted as often as a file of it is fetched, under a build',
            'a row of the ledger for each sample; the same call builds all when that has ended',
            'deleted_cache: a_cache_that_lasts_for_no_file_costs_a_build_in_words',
        ),
        (
            'the same under a loader or its workers',
            '`CacheGone` says what to do',
            'deleted_cache: a_cache_that_lasts_for_no_shard_of_a_worker_is_said',
        ),
        (
            'the cache is deleted after the test of a version in a bucket was looked at',
            'the look is still known',
            'deleted_cache: looks_at_the_test_outlive_the_cache',
        ),
        (
            'a plane beside an image is missing or deleted, where no cache has a part',
            'reason `missing_plane`, at once',
            'deleted_cache: a_file_that_is_missing_elsewhere_is_none_of_the_cache',
        ),
        (
            'a name has as many bytes as a disk takes, or one more',
            'it is written; `BadInput` names it',
            'damaged_places: a_file_may_have_the_longest_name_that_there_is',
        ),
        (
            'a folder of images holds links in a circle, or to nothing',
            'a row of the ledger at most; the images are taken in, each once',
            'damaged_places: links_in_a_circle_stop_no_ingest',
        ),
        (
            'a disk holds no more files, though it has bytes left',
            '`DiskFull` says so; the same call after that ends well',
            'full_disk: a_disk_that_holds_no_more_files',
        ),
        (
            'a quota is used up (EDQUOT, as the kernel says it)',
            '`DiskFull` says so; what was there stays',
            'full_disk: a_quota_that_is_used_up_is_said',
        ),
        (
            'the disk of a build fills',
            '`DiskFull`; the version after it has the same content hash',
            'full_disk: a_build_is_lost_in_words_and_whole_after',
        ),
        (
            'the disk fills in mid-training',
            'a warning; training goes on, and the last whole checkpoint stays',
            'training: a_disk_that_fills_up_in_mid_training_costs_a_warning',
        ),
        (
            'the disk fills while a run is tracked',
            'a warning; training goes on, lines wait in memory, artifacts are named as lost',
            'tracking: training_goes_on_on_a_full_disk_and_says_so',
        ),
        (
            'the archive can only be read',
            'it opens and reads; writing is `NotWritable`',
            'store_faults: a_read_only_disk_can_be_read',
        ),
        (
            'a path is too long, goes in a circle of links, or a file is in its way',
            '`BadInput` names the path, of home, storage and database alike',
            'odd_places: a_path_that_cannot_be_is_said',
        ),
        (
            'another process holds the lock of SQLite',
            'the server answers all the same and counts uses later',
            'server_hard: a_locked_database_costs_no_request',
        ),
    ],
    'Bytes that changed': [
        (
            'a version that was sealed anew by whoever changed it',
            'the registry remembers another root: refused in words',
            'guards: a_seal_that_was_made_anew_is_not_the_one_that_is_remembered',
        ),
        (
            'a file of a version is changed, its size and its time are set back',
            'the time of its entry tells, and it is read again',
            'guards: a_file_whose_time_was_set_back_is_read_again',
        ),
        (
            'the registry is deleted, moved or replaced while an archive is open',
            '`DatabaseAway` at the next use; nothing goes into a file that has no name',
            'odd_places: a_registry_that_is_gone_while_it_is_open_takes_in_nothing',
        ),
        (
            'the same in the middle of a transaction',
            '`DatabaseAway` before the commit, and nothing is stored',
            'odd_places: a_registry_that_goes_before_a_commit_is_no_success',
        ),
        (
            'the registry is cut or written over',
            '`Conflict` says that it is damaged',
            'odd_places: a_registry_that_is_damaged_is_said',
        ),
        (
            'a bit of a file in the disk cache flips, or the file is cut',
            'it is fetched again',
            'store_faults: any_flipped_bit_in_the_cache_is_found_and_fetched_again',
        ),
        (
            'an image is changed after it was taken in',
            'opening, building and adding notice it: reason `changed`, or taken in anew if asked',
            'store_faults: a_changed_file_is_noticed_and_may_be_taken_in_anew',
        ),
        (
            'a bit of an image flips, size and time stay',
            'found with `always_hash=True`, and by the blocks of an image in a bucket',
            'store_faults: a_change_whose_time_was_set_back_is_noticed',
        ),
        (
            'an object in a bucket is damaged',
            'its own samples are lost, with the reason; the others are built',
            'store_faults: a_damaged_object_costs_its_own_samples_only',
        ),
        (
            'a byte of any file of a version is changed',
            '`Conflict` names the file, at opening or reading',
            'seal: a_changed_byte_is_found_in_words',
        ),
        (
            'a byte of light curves, of a quality report or of a signature is changed',
            '`Conflict` names the file; of a signature, `verify(key)`',
            'damaged_places: a_byte_of_any_file_of_a_whole_version_is_found',
        ),
        (
            'the footer of light curves is damaged, and the folder is sealed anew',
            '`Conflict`; the process neither waits nor ends',
            'damaged_places: a_damaged_footer_of_light_curves_ends_no_process_and_holds_none',
        ),
        (
            'bytes in light curves that are no text, and the folder is sealed anew',
            '`Conflict`, whoever looks at them',
            'damaged_places: what_is_no_text_in_light_curves_is_said',
        ),
        (
            'a byte of a file of ONNX, or with its own tools its weights or facts, is changed',
            '`BadInput` when it is read',
            'sealed_files: every_part_of_a_file_of_onnx_is_sealed',
        ),
        (
            'a file of ONNX is changed and sealed anew by somebody',
            'it is read, as no secret is in a seal; an archive that was scored with the first one refuses it',
            'sealed_files: a_file_that_was_sealed_anew_is_not_the_one_an_archive_knows',
        ),
        (
            'a mapped file of pixels is cut, not replaced, by another program',
            '`Conflict` at the next look; in the microseconds between the look and the copy the system ends the process (SIGBUS): this remains',
            'sealed_files: a_shard_that_is_cut_between_look_and_copy_ends_its_process',
        ),
        (
            'a file of a version is cut or gone',
            '`Conflict` or `NotFound` names it',
            'seal: a_file_that_is_cut_or_lost_is_found',
        ),
        (
            'a whole version is sealed anew by somebody',
            '`Conflict`: it is not the one that the registry knows',
            'seal: a_folder_that_was_sealed_anew_is_not_the_registered_one',
        ),
        (
            'light curves get later epochs, and the folder is sealed anew',
            '`Conflict` at opening; a folder alone refuses to read them',
            'frozen_curves: curves_that_were_sealed_anew_are_not_those_of_the_registry',
        ),
        (
            'columns or facts of light curves are exchanged, and the folder is sealed anew',
            '`Conflict` names the column or the fact',
            'frozen_curves: columns_that_were_written_otherwise_are_said',
        ),
        (
            'a file of a version is replaced by a pipe or an endless device',
            '`Conflict` or `NotFound`, at once',
            'no_files: a_version_with_a_pipe_in_it_is_refused_at_once',
        ),
        (
            'the folder of a version is deleted while a server runs',
            '404 or 409 at the next request',
            'served_files: a_folder_that_is_deleted_is_served_no_longer',
        ),
        (
            'the folder of a version is replaced while a server runs',
            'it is read anew; 409 where its bytes are not those that were frozen',
            'served_files: a_folder_that_is_another_is_read_anew',
        ),
    ],
    'The network and services': [
        (
            'PostgreSQL crashes and restarts in the middle of `add_alerts` or of a build',
            'an error in words; the same call ends as undisturbed, by a digest',
            'stamp_faults: a_database_that_restarts_is_gone_on_with',
        ),
        (
            'nobody answers, or the bucket is not there',
            '`StoreUnreachable`, `NotFound`',
            'storage: no_bucket_and_nobody_home',
        ),
        ('a body breaks off', 'it is read again', 'storage: a_broken_body_is_read_again'),
        (
            'a download breaks off',
            'it goes on where it ended, if the server says that the file is the same',
            'download: a_cut_body_is_continued',
        ),
        (
            'a token has expired, a key is wrong, the clock is off (400, 401, 403)',
            '`StoreDenied` says which, and what to do',
            'store_faults: a_matter_of_credentials_says_so',
        ),
        (
            'objects that are missing (404), forbidden (403) or broken during a build',
            'each loses its own samples, with its true reason',
            'kill: a_bucket_that_goes_wrong_costs_its_own_samples',
        ),
        (
            'an object is replaced between two ranges (412)',
            'ranges of two versions are never mixed',
            'store_faults: ranges_of_two_versions_are_never_mixed',
        ),
        (
            'the service has not made up its mind (409)',
            'it is asked again, five times',
            'store_faults: a_service_that_has_not_made_up_its_mind_is_asked_again',
        ),
        (
            'the service does not know `If-None-Match` (501)',
            'it is asked first whether the object is there',
            'store_faults: a_service_without_conditions_is_asked_before',
        ),
        (
            'a part of an object comes that was not asked for, or does not say which it is',
            '`StoreUnreachable`; it is taken for nothing',
            'store_faults: a_part_that_was_not_asked_for_is_not_taken',
        ),
        (
            'several machines change one object at the same time',
            'the changes of all are in it',
            'store_faults: many_change_an_object_and_nothing_is_lost',
        ),
        (
            'https answers with 401 … 416, 429, 500, 502, 503',
            '`NotFound` or `StoreDenied` at once, `StoreUnreachable` after four tries',
            'web_faults: each_status_is_one_of_our_errors',
        ),
        (
            'https answers with a header of a megabyte, ten thousand headers, odd lengths, broken chunks, or leads in a circle',
            'one of our errors',
            'web_faults: a_broken_answer_is_one_of_our_errors',
        ),
        (
            'a body over https has no end',
            '`too_large` with the name of the limit; nothing stays on the disk',
            'web_faults: a_body_without_end_ends_at_the_limit',
        ),
        (
            'MLflow is away, denies or fails while a classifier is loaded',
            '`StoreUnreachable` or `StoreDenied`, and no other model instead',
            'scoring: that_mlflow_is_away_is_not_that_it_has_no_classifier',
        ),
        (
            'the address of MLflow is of no kind that there is, or its driver is missing',
            '`StoreUnreachable` with the address and without its password; a run goes on and is sent later',
            'odd_places: an_address_of_mlflow_that_cannot_be_is_said_without_its_password',
        ),
        (
            'an address leads on to a weaker scheme or to a private machine',
            'refused',
            'server_addresses: nobody_is_led_on_to_a_private_machine',
        ),
    ],
    'What others send': [
        (
            'sets of stamps, messages, lists of objects, votes and what is scored, seeded',
            'our errors only; no stamp with other pixels where a checksum could tell, none lost unsaid',
            'fuzz_sets: no_set_and_no_list_is_too_odd',
        ),
        (
            'a tar of stamps that was cut, or that is packed and was changed',
            'a row in the ledger; no stamp of it has other pixels',
            'fuzz_sets: a_tar_that_was_cut_or_changed_says_so',
        ),
        (
            'a damaged head in the middle of a tar',
            'a row `truncated`; it is not taken for the end',
            'fuzz_sets: a_head_that_is_damaged_is_not_the_end',
        ),
        (
            'a pipe, a link or a device in a tar of stamps or in a night of alerts',
            'a row `not_a_file`; the others are taken in',
            'fuzz_sets: what_is_no_file_in_a_tar_has_its_row',
        ),
        (
            'a chunk of a zarr store that was cut',
            'its stamps are lost in words; memory behind it is not read',
            'fuzz_sets: a_cut_chunk_costs_its_stamps',
        ),
        (
            'broken FITS, stamps, packets, Parquet, catalogues and settings, seeded',
            'our errors only: no crash, no hang, no gigabyte, nothing cut accepted',
            'fuzz_files: no_input_is_too_odd',
        ),
        (
            'any bytes as Arrow or Feather, light curves of a version, or limits of a watch',
            'read, or refused in words; the process goes on',
            'fuzz_files: no_table_and_no_limit_is_too_odd',
        ),
        (
            'odd requests of every kind (sets, verdicts, files, scores, keys), and manifests that somebody changed, seeded',
            'an answer in its envelope below 500; every change found',
            'fuzz_doors: nothing_odd_comes_through_a_door',
        ),
        (
            'model folders, ONNX files, packs, downloads, tables of archives and commands that are broken, seeded',
            'our errors only; a changed model is found',
            'fuzz_models: nothing_odd_of_a_model_an_archive_or_a_shell_comes_through',
        ),
        (
            'a table is cut within the word that says its kind',
            '`BadInput`; not a table without rows',
            'damaged_places: a_table_cut_within_its_first_word_is_no_empty_table',
        ),
        (
            'small files that unpack to gigabytes',
            '`too_large`, with the name of the limit',
            'fuzz_files: bombs_are_refused_and_limits_can_be_set',
        ),
        (
            'headers that crash a C library, or ask for absurd axes',
            'refused before that library sees them',
            'fuzz_files: absurd_cards_of_a_wcs_are_refused',
        ),
        (
            'one bad file among others',
            'a row of the ledger; the others are taken in',
            'fuzz_files: one_bad_file_stops_nothing',
        ),
        (
            'a pipe, a socket or an endless device as image, alert, table or `.env`',
            'refused, or not there, at once',
            'no_files: what_is_no_file_is_refused_at_once',
        ),
        (
            'JSON with NaN, a name twice, half a character or deep nesting',
            '`BadInput` or `Conflict`, in words',
            'outside_json: texts_are_refused_in_words',
        ),
        (
            '150 MB without a key',
            'refused at once, memory flat, others served',
            'server_hard: 150_megabytes_are_refused_at_once',
        ),
        (
            'ten or forty thousand headers in one piece, a header, path, cookie, chunk extension or trailer of a megabyte',
            '431 or 400; others are served meanwhile, memory flat',
            'raw_requests: a_header_bomb_is_refused_and_others_are_served',
        ),
        (
            'a header that has no end',
            'its connection is let go',
            'raw_requests: a_header_without_end_is_let_go',
        ),
        (
            'two lengths, a length and parts, broken chunk sizes, NUL, a blank before a colon: what two readers take for different requests',
            'one answer below 500, or 501, and the connection ends; what stands behind is no request',
            'raw_requests: what_can_be_read_in_two_ways_is_answered_once_and_ends',
        ),
        (
            'another protocol, or a request that breaks off',
            'an answer below 500, or silence',
            'raw_requests: other_protocols_and_what_breaks_off_end_in_words_or_silence',
        ),
        (
            'a file of AVRO or Parquet that ends the process that reads it, with `isolate=True`',
            'a row of the ledger (`crashed`); the other files are taken in',
            'isolated_tables: a_file_of_alerts_that_ends_its_reader_costs_itself',
        ),
        (
            'a stamp that ends the process that reads it, taken in or scored by the server',
            'its alert has the reason `crashed`; the others are taken in or scored',
            'rest_scores: a_packet_that_ends_its_reader_costs_itself',
        ),
        (
            'a set of stamps that ends the process that reads it, with `isolate=True`',
            'a row of the ledger (`crashed`); the other files are taken in',
            'isolated_tables: a_set_of_stamps_that_ends_its_reader_costs_itself',
        ),
        (
            'HDF5 that hung its library or took gigabytes',
            'a row of the ledger (`unreadable`), before it is read; memory stays below 1 GB',
            'isolated_tables: what_hung_the_library_or_took_all_memory_costs_itself',
        ),
        (
            'a stamp whose reading never ends, with `isolate=True`',
            'a row of the ledger (`too_slow`); the others are taken in',
            'isolated_tables: a_stamp_that_never_ends_costs_itself',
        ),
        (
            'an HDF5 file whose cells are of absurd size (3.9 GB for one text)',
            'a row of the ledger, before room is made, with `isolate=True` or without; cells that are packed as well only with it',
            'fuzz_sets: hdf5_whose_cells_are_of_absurd_size_costs_itself',
        ),
        (
            'a chunk of HDF5 or zarr, a tile, a block of AVRO or a column of a row group of more than `ASTRID_MAX_PIECE_BYTES`',
            'a row `too_large`, before room is made, with `isolate=True` or without; not so a block of zstandard, which is unpacked first, nor texts of Parquet, each counted as one byte',
            'sealed_files: a_large_chunk_of_hdf5_is_refused',
        ),
        (
            'a member of NPZ whose head says more than it has',
            'a row of the ledger, before room is made',
            'sealed_files: a_member_of_npz_that_says_more_than_it_has_is_refused',
        ),
        (
            'a file of NPY in a tar whose head says more than it has',
            'a row of the ledger, before room is made',
            'stamp_planes: an_npy_head_in_a_tar_that_says_too_much_costs_itself',
        ),
        (
            'an ASDF file whose numbers or links lie in another file',
            'a row of the ledger; the other file is not opened',
            'asdf: no_other_file_is_followed',
        ),
        (
            'a heap of HDF5 that leads its library round for ever',
            'a row of the ledger, before the library sees it',
            'sealed_files: a_heap_of_hdf5_without_an_end_is_refused',
        ),
        (
            'an option of an ingest that is wrong, where no archive is yet',
            'refused in words; none begins',
            'shell_words: a_wrong_option_begins_no_archive',
        ),
        (
            'a flipped bit in a packed tar of alerts',
            'a row of the ledger; nothing of it is stored, as only its checksum knows',
            'packed_nights: a_flipped_bit_is_found_before_a_row_is_stored',
        ),
        (
            'a packed tar of alerts that breaks off',
            'its alerts up to there, and a row of the ledger',
            'packed_nights: one_that_breaks_off_is_sound_up_to_there',
        ),
        (
            'a set of stamps becomes another file while it is read',
            'a row `changed`; what was read of the first stays',
            'stamp_faults: a_file_that_becomes_another_is_said',
        ),
        (
            'a set of stamps (NPZ, NPY, HDF5, Parquet, tar, a zarr folder) is renamed, linked, written over, cut or grows while it is read',
            'the old content, or a row `changed`',
            'swapped_sources: a_set_of_stamps_that_becomes_another',
        ),
        (
            'so does a table between two looks at it',
            '`BadInput`',
            'swapped_sources: a_table_that_becomes_another',
        ),
        (
            'so does a file of alerts',
            'what was read, and a row `changed`',
            'swapped_sources: a_file_of_alerts_that_becomes_another',
        ),
        (
            'so does an image that is open',
            'the old content where it was renamed, else `BadImage` (`changed`); one that is cut no longer ends the process, unless it is cut in the very moment of a look at it',
            'swapped_sources: an_image_that_becomes_another',
        ),
        (
            'an image is written over during a build',
            'its samples are in the ledger (`changed`)',
            'swapped_sources: a_build_from_an_image_that_becomes_another',
        ),
        (
            'an image is written over or cut during `add_fits`',
            'a row `changed`; nothing of it is stored',
            'swapped_sources: an_image_that_becomes_another_while_it_is_taken_in',
        ),
        (
            'a folder grows while its stamps are taken in',
            'the next call takes in what is new',
            'stamp_faults: a_folder_that_grows_is_gone_on_with',
        ),
        (
            '`is_real=2`, `is_real=b"kind"`, a score of 2, a class that is no text',
            '`BadInput` before anything is read',
            'stamp_faults: a_verdict_that_is_none_is_refused_in_words',
        ),
        (
            'a catalogue that ends the process that reads it, with `isolate=True`',
            '`BadInput` in Python and in the shell',
            'isolated_tables: a_catalogue_that_ends_its_reader_is_an_error_of_its_own',
        ),
        (
            'a client that sends a letter now and then',
            'it is let go',
            'server_hard: a_letter_now_and_then_holds_no_connection',
        ),
        (
            'a thousand questions at once whether the server is ready, without a key',
            'one look at database and store answers all',
            'jobs: a_thousand_questions_cost_one_look',
        ),
        (
            'one key asks for more jobs than may wait',
            '429 in words; half of the room stays for other keys',
            'jobs: who_asks_too_often_leaves_room_for_others',
        ),
        (
            'a row of the registry that names a file of the server',
            'not opened',
            'server_hard: a_row_of_the_registry_opens_no_file_of_the_server',
        ),
    ],
    'Clocks': [
        (
            'a set of stamps is dated in the future',
            'it is taken in once',
            'stamp_faults: a_file_from_the_future_is_taken_in_once',
        ),
        (
            'files are dated later than now, as the clock was set back',
            'they are taken in once',
            'damaged_places: files_of_a_clock_that_was_set_back_are_taken_in',
        ),
        (
            'a cache got files while the clock was ahead',
            'they go first, and hold no place for years',
            'damaged_places: what_a_cache_got_while_the_clock_was_ahead_goes_first',
        ),
        (
            'verdicts are dated by a wrong clock',
            'they count once',
            'boundaries_growth: verdicts_dated_by_a_wrong_clock_count_once',
        ),
        (
            'our own clock was ahead, and is set back',
            'the next version still sees what comes',
            'boundaries_growth: a_version_made_while_our_clock_was_ahead_still_sees_what_comes',
        ),
    ],
}


def page():  # Markdown
    "The table of faults and outcomes"
    lines = ['# When things go wrong', '', 'Each line is shown by the test in its last column.']
    for title, rows in FAULTS.items():
        lines += ['', f'## {title}', '', '| fault | outcome | test |', '|---|---|---|']
        for fault, outcome, test in rows:
            file, _, function = test.partition(': ')
            lines.append(f'| {fault} | {outcome} | `tests/test_{file}.py::test_{function}` |')
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    print(page(), end='')
