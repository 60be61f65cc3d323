// A worker: browsers slow the timers of a page in the background down, but not these.
setInterval(() => postMessage(0), 25);
