//! One route of a table, and the router that is built from a table.

use axum::Router;
use axum::extract::FromRef;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};

use super::control::{ControlApi, drain, events};
use super::problem::not_found;

/// The prefix of the versioned paths.
pub(super) const V1: &str = "/api/v1";

/// The method of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Method {
    Get,
    Post,
}

/// The paths of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mount {
    /// The path itself.
    Root,
    /// The path with the prefix [`V1`].
    V1,
    /// The path itself, and the path with the prefix [`V1`].
    RootAndV1,
}

/// The condition for access to a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    Public,
    /// The caller shows the token.
    Token,
}

/// One route.
pub(super) struct Route<S> {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) mount: Mount,
    pub(super) access: Access,
    /// Makes the handler for a method.
    handler: Box<dyn Fn(MethodFilter) -> MethodRouter<S>>,
}

/// The routes that a worker and a supervisor have in common.
pub(super) fn common_routes<S>() -> Vec<Route<S>>
where
    S: Clone + Send + Sync + 'static,
    ControlApi: FromRef<S>,
{
    vec![
        Route::get("/live", Mount::Root, Access::Public, || async { "live" }),
        Route::post("/drain", Mount::RootAndV1, Access::Token, drain),
        Route::get("/events", Mount::RootAndV1, Access::Token, events),
    ]
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    /// A GET route.
    pub(super) fn get<H, T>(path: &'static str, mount: Mount, access: Access, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        Self::new(Method::Get, path, mount, access, handler)
    }

    /// A POST route.
    pub(super) fn post<H, T>(path: &'static str, mount: Mount, access: Access, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        Self::new(Method::Post, path, mount, access, handler)
    }

    fn new<H, T>(method: Method, path: &'static str, mount: Mount, access: Access, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        Self { method, path, mount, access, handler: Box::new(move |method| on(method, handler.clone())) }
    }

    fn handler(&self) -> MethodRouter<S> {
        (self.handler)(match self.method {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
        })
    }

    /// All paths of the route.
    pub(super) fn paths(&self) -> Vec<String> {
        let versioned = format!("{V1}{}", self.path);
        match self.mount {
            Mount::Root => vec![self.path.to_owned()],
            Mount::V1 => vec![versioned],
            Mount::RootAndV1 => vec![self.path.to_owned(), versioned],
        }
    }
}

/// The router of a table.
pub(super) fn router<S>(table: Vec<Route<S>>, state: S) -> Router
where
    S: Clone + Send + Sync + 'static,
    ControlApi: FromRef<S>,
{
    let control = ControlApi::from_ref(&state);
    let (mut public, mut protected) = (Router::new(), Router::new());
    for route in table {
        for path in route.paths() {
            match route.access {
                Access::Public => public = public.route(&path, route.handler()),
                Access::Token => protected = protected.route(&path, route.handler()),
            }
        }
    }
    public.merge(control.protect(protected)).fallback(not_found).with_state(state)
}
