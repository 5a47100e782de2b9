//! The real binary, as a user runs it. A file is named after the module, the verb or the behaviour that it tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by panicking"
)]

mod agent_cache;
mod agent_health;
mod agents_of_one_worker;
mod bindings;
mod chaos_dispatch;
mod child_processes;
mod dispatcher;
mod dispatcher_api;
mod dispatcher_tls;
mod documentation;
mod drain;
mod event_order;
mod event_sinks;
mod examples;
mod faults_around_the_host;
mod faults_inside_the_host;
mod foreign_agents;
mod foreign_models;
mod foreign_sockets;
mod foreign_sound;
mod fuzz;
mod hostile_components;
mod hostile_guests;
mod hostile_peers;
mod http_api;
mod interop;
mod invalid_input;
mod isolation;
mod isolation_beside_hostile_guests;
mod joined_rooms;
mod limits;
mod livekit_real_server;
mod livekit_worker;
mod load_function;
mod llm;
mod loading;
mod mock_models;
mod moderation;
mod network;
mod network_hostile;
mod network_secrets;
mod outgoing_connections;
mod packaging;
mod prewarm;
mod processes;
mod recordings;
mod rooms_audio;
mod rooms_clients;
mod rooms_faults;
mod rooms_echo;
mod rooms_events;
mod rooms_killed;
mod rooms_sound;
mod sdk_session;
mod service_manager;
mod settings;
mod stalled_jobs;
mod steps;
mod support;
mod tenants;
mod terminal;
mod tidy;
mod verb_bench;
mod verb_capacity;
mod verb_config_check;
mod verb_dispatch;
mod verb_doctor;
mod verb_prepare;
mod verb_rooms;
mod verb_run_interrupt;
mod verb_test;
mod verbs_completions_and_man;
mod verbs_new_and_build;
mod verbs_ps_kill_drain_events;
mod worker_reload;
