// SPDX-License-Identifier: MIT OR Apache-2.0
//! The smallest executor: futures of one thread, each polled when its waker was called.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::rig::{failed, Result};

/// How long nothing at all may happen.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Ready {
    tasks: Mutex<VecDeque<usize>>,
    some: Condvar,
}

impl Ready {
    fn push(&self, task: usize) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.push_back(task);
        self.some.notify_one();
    }

    /// The next task whose waker was called; `None` if there is none for long.
    fn pop(&self) -> Option<usize> {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .some
            .wait_timeout_while(tasks, PATIENCE, |tasks| tasks.is_empty());
        let (mut tasks, _) = waited.unwrap_or_else(PoisonError::into_inner);
        tasks.pop_front()
    }
}

struct TaskWaker {
    task: usize,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.task);
    }
}

/// Runs futures until each has ended; gives what they gave, in their order.
pub fn run<F: Future + Unpin>(futures: Vec<F>) -> Result<Vec<F::Output>> {
    let ready = Arc::new(Ready::default());
    let waker = |task| {
        let ready = ready.clone();
        Waker::from(Arc::new(TaskWaker { task, ready }))
    };
    let wakers: Vec<Waker> = (0..futures.len()).map(waker).collect();
    (0..futures.len()).for_each(|task| ready.push(task));
    let mut tasks: Vec<Option<F>> = futures.into_iter().map(Some).collect();
    let mut outputs: Vec<Option<F::Output>> = tasks.iter().map(|_| None).collect();
    let mut left = tasks.len();
    while left > 0 {
        let Some(task) = ready.pop() else {
            return failed(format!("{left} futures are left, and nothing happens"));
        };
        let Some(future) = &mut tasks[task] else {
            continue;
        };
        let mut context = Context::from_waker(&wakers[task]);
        if let Poll::Ready(output) = Pin::new(future).poll(&mut context) {
            tasks[task] = None;
            outputs[task] = Some(output);
            left -= 1;
        }
    }
    Ok(outputs.into_iter().flatten().collect())
}

/// Polls each once, and leaves them.
pub fn poll_once<F: Future + Unpin>(futures: &mut [F]) -> usize {
    let mut context = Context::from_waker(Waker::noop());
    futures
        .iter_mut()
        .filter_map(|future| match Pin::new(future).poll(&mut context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends at the second poll.
    struct Twice(bool);

    impl Future for Twice {
        type Output = u32;

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<u32> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(7);
            }
            let waker = context.waker().clone();
            std::thread::spawn(move || waker.wake());
            Poll::Pending
        }
    }

    /// Proves that futures that are woken from elsewhere are polled again, and no others.
    #[test]
    fn woken() {
        let futures = (0..10).map(|_| Twice(false)).collect();
        assert_eq!(run(futures).unwrap(), [7; 10]);
        let mut futures = [Twice(false), Twice(true)];
        assert_eq!(poll_once(&mut futures), 1);
    }
}
