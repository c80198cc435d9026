use super::*;

fn effects(name: &[u8]) -> Effects {
    find(name).expect("a function")
}

#[test]
fn what_is_known() {
    for (name, wanted) in [
        ("lower", Effects::NONE),
        ("pg_advisory_xact_lock", Effects::NONE),
        ("in", Effects::NONE),
        ("conflict", Effects::NONE),
        ("set_config", Effects::SETTING),
        ("pg_try_advisory_lock", Effects::SESSION_LOCK),
        ("binary_upgrade_set_next_pg_enum_oid", Effects::LASTING),
        ("query_to_xml", Effects::UNKNOWN_FUNCTION),
    ] {
        assert_eq!(find(name.as_bytes()), Some(wanted), "{name}");
    }
    assert_eq!(find(b"st_distance"), None);
    assert_eq!(find(b""), None);
}

#[test]
fn every_name_is_found() {
    for (name, effects_of) in SPECIAL {
        assert_eq!(effects(name.as_bytes()), *effects_of, "{name}");
    }
    for name in LISTS.concat() {
        let special = SPECIAL.iter().any(|(of, _)| *of == name) || name.starts_with("binary_upgrade_");
        assert!(special || effects(name.as_bytes()).is_empty(), "{name}");
    }
}

/// What has effects must be a name of a function, or the list protects nobody.
#[test]
fn special_functions_exist() {
    const OTHERS: [&str; 3] = ["dblink_connect", "dblink_connect_u", "treat"];
    for (name, effects) in SPECIAL {
        assert!(!effects.is_empty(), "{name}");
        assert!(builtin::NAMES.contains(name) || OTHERS.contains(name), "{name}");
    }
}

#[test]
fn names_are_sorted() {
    for list in LISTS {
        assert!(list.is_sorted(), "{:?}", list.windows(2).find(|pair| pair[0] > pair[1]));
    }
}

/// PostgreSQL labels every function of its own: parallel safe means that it changes neither the database nor settings,
/// and reads no state of the backend. So each of the others is either special, or here with the reason why not.
#[test]
fn every_function_that_is_not_parallel_safe_was_thought_of() {
    const FREE: &[&str] = &[
        // Change what all sessions see: pages, large objects, statistics, slots and origins that stay, WAL, collations.
        "brin_",
        "gin_clean_pending_list",
        "lo_",
        "loread",
        "lowrite",
        "pg_clear_",
        "pg_restore_",
        "pg_drop_replication_slot",
        "pg_import_system_collations",
        "pg_logical_emit_message",
        "pg_nextoid",
        "pg_logical_slot_",
        "pg_replication_origin_advance",
        "pg_replication_origin_create",
        "pg_replication_origin_drop",
        "pg_replication_slot_advance",
        "pg_sync_replication_slots",
        // End with the transaction at the latest.
        "pg_advisory_xact_",
        "pg_current_xact_",
        "pg_export_snapshot",
        "pg_replication_origin_xact_",
        "pg_stat_clear_snapshot",
        "pg_stat_force_next_flush",
        "pg_try_advisory_xact_",
        "txid_",
        // Tell, and change nothing.
        "age",
        "current_query",
        "current_schema",
        "current_schemas",
        "currtid2",
        "database_to_xmlschema",
        "inet_",
        "pg_backend_pid",
        "pg_conf_load_time",
        "pg_config",
        "pg_cursor",
        "pg_event_trigger_",
        "pg_get_",
        "pg_listening_channels",
        "pg_my_temp_schema",
        "pg_notification_queue_usage",
        "pg_prepared_statement",
        "pg_replication_origin_progress",
        "pg_replication_origin_session_is_setup",
        "pg_replication_origin_session_progress",
        "pg_sequence_last_value",
        "pg_show_replication_origin_status",
        "pg_stat_get_",
        "pg_stat_have_stats",
        "pg_trigger_depth",
        "schema_to_xmlschema",
        "table_to_xmlschema",
        // Random numbers, of a seed that is special itself.
        "random",
        "random_normal",
        // Not to be called by hand.
        "dsnowball_",
        "pg_extension_config_dump",
        "plpgsql_validator",
    ];
    for name in builtin::NOT_PARALLEL_SAFE {
        let special = !effects(name.as_bytes()).is_empty();
        let free = FREE.iter().any(|of| *of == *name || of.ends_with('_') && name.starts_with(of));
        assert!(special != free, "{name}: special {special}, free {free}");
    }
    for (name, _) in SPECIAL {
        let labelled = builtin::NOT_PARALLEL_SAFE.contains(name) || !builtin::NAMES.contains(name);
        assert!(labelled, "{name} is parallel safe: what is special about it?");
    }
}
