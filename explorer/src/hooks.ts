import { createContext } from "preact";
import { useContext, useEffect, useRef, useState } from "preact/hooks";
import { get, Outage, post, sendMark, uuid, type Galaxy, type Meta, type Progress } from "./api";
import { changed, go, type Tab } from "./place";

export interface Shared {
  meta: Meta;
  progress: Progress | null;
  outages: number; // how often the server was away and came back
  keys: Map<string, string>; // the label of each key
  fail: (error: unknown) => void;
  tell: (news: string) => void;
  judge: (galaxy: Galaxy, label: string, milliseconds?: number) => Promise<boolean>;
  undo: () => Promise<string | null>;
}

export const SharedContext = createContext<Shared | null>(null);

export function useShared(): Shared {
  const shared = useContext(SharedContext);
  if (!shared) throw new Error("outside of the page");
  return shared;
}

// The keys 1 to 9, and the first letter of a label that is free. The letters of commands are taken.
export function keysOf(labels: string[]): Map<string, string> {
  const taken = new Set(["z", "m"]);
  const keys = new Map<string, string>();
  labels.forEach((label, place) => {
    if (place < 9) keys.set(String(place + 1), label);
    const letter = [...label.toLowerCase()].find((one) => /[a-z]/.test(one) && !taken.has(one));
    if (letter) {
      taken.add(letter);
      keys.set(letter, label);
    }
  });
  return keys;
}

interface Fetched<T> {
  value: T | null;
  error: Error | null;
  busy: boolean;
  of: string | null; // the path that value or error answers; the one before while a new one is on its way
}

/** Count the outages that ended a failure, so that what failed is tried again. */
export function useAttempts(hasFailed: boolean): number {
  const { outages } = useShared();
  const [attempts, setAttempts] = useState(0);
  useEffect(() => {
    if (hasFailed) setAttempts((before) => before + 1);
  }, [outages]);
  return attempts;
}

export function useFetched<T>(path: string | null, version = 0): Fetched<T> {
  const [state, setState] = useState<Fetched<T>>({ value: null, error: null, busy: path !== null, of: null });
  const attempt = useAttempts(state.error !== null);
  useEffect(() => {
    if (path === null) return;
    const stop = new AbortController();
    setState((old) => ({ ...old, busy: true }));
    get<T>(path, stop.signal)
      .then((value) => setState({ value, error: null, busy: false, of: path }))
      .catch((error) => {
        if (!stop.signal.aborted) setState({ value: null, error, busy: false, of: path });
      });
    return () => stop.abort();
  }, [path, version, attempt]);
  return state;
}

const MILLISECONDS_BETWEEN_POLLS = 1000;

interface Watched {
  progress: Progress | null;
  outages: number;
  refresh: () => Promise<void>;
}

/**
 * Watch the labels, and whether the server answers.
 *
 * The page asks now and then. A stream of events would hold a connection for each window, and browsers open only six
 * to one host.
 */
export function useProgress(digest: string, fail: (error: unknown) => void, recover: () => void): Watched {
  const [progress, setProgress] = useState<Progress | null>(null);
  const [outages, setOutages] = useState(0);
  const told = useRef(-1);
  const refresh = async () => {
    const now = await get<Progress>("api/progress");
    told.current = now.version;
    setProgress(now);
  };
  useEffect(() => {
    let timer = 0;
    let isAway = false;
    let isAsking = false;
    const ask = async () => {
      clearTimeout(timer);
      if (document.hidden || isAsking) return; // a hidden page asks once it is seen again
      isAsking = true;
      try {
        const now = await get<{ version: number; digest: string }>("api/version");
        if (now.digest !== digest) location.reload(); // another run, or the same one made again
        recover();
        if (isAway) setOutages((before) => before + 1);
        isAway = false;
        if (now.version !== told.current) await refresh();
      } catch (error) {
        isAway ||= error instanceof Outage;
        fail(error);
      }
      isAsking = false;
      timer = setTimeout(ask, MILLISECONDS_BETWEEN_POLLS);
    };
    void ask();
    document.addEventListener("visibilitychange", ask);
    return () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", ask);
    };
  }, []);
  return { progress, outages, refresh: () => refresh().catch(fail) };
}

// A key that is held steps through a list, but labels or undoes once.
const isHeld = (event: KeyboardEvent) => event.repeat && event.key !== " " && !event.key.startsWith("Arrow");

/** Whether a key belongs to the control that has the focus. */
function isForControl(event: KeyboardEvent): boolean {
  const control = event.target;
  // A letter chooses an entry of a list, unless the pointer is on a galaxy.
  if (control instanceof HTMLSelectElement) return event.key.length > 1 || event.key === " " || !document.querySelector(".tile:hover");
  if (control instanceof HTMLInputElement && control.type === "range") return event.key.length > 1;
  return control instanceof HTMLInputElement || control instanceof HTMLTextAreaElement;
}

/** Handle keys; `handle` returns whether it took the key. */
export function useKey(handle: (key: string) => boolean): void {
  const latest = useRef(handle);
  latest.current = handle;
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isHeld(event) || isForControl(event)) return;
      if (latest.current(event.key.length === 1 ? event.key.toLowerCase() : event.key)) event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

/** The key `m` shows or hides the debris maps. */
export function useMapKey(tab: Tab, params: URLSearchParams): void {
  const { meta } = useShared();
  useKey((key) => {
    if (key !== "m" || !meta.has_maps) return false;
    go(tab, changed(params, { map: params.has("map") ? null : "1" }), true);
    return true;
  });
}

/** Marks and undos, each sent when the one before is answered, so that an undo finds the mark it is meant for. */
export function useJudging(fail: (error: unknown) => void, refresh: () => Promise<void>): Pick<Shared, "judge" | "undo"> {
  const last = useRef<Promise<unknown>>(Promise.resolve());
  const inTurn = <T>(send: () => Promise<T>): Promise<T | null> => {
    const answer = last.current.then(send).catch((error) => {
      fail(error);
      return null;
    });
    last.current = answer;
    return answer;
  };
  return {
    judge: async (galaxy, label, milliseconds) => {
      const { strategy = "search", rank, probability } = galaxy;
      const mark = { uuid: uuid(), object_id: galaxy.id, label, strategy, rank, probability, milliseconds };
      return (await inTurn(() => sendMark(mark).then(refresh).then(() => true))) ?? false;
    },
    undo: () =>
      inTurn(async () => {
        const { undone } = await post<{ undone: { id: string } | null }>(`api/undo?uuid=${uuid()}`);
        await refresh();
        return undone?.id ?? null;
      }),
  };
}

/** Send a list or a position to the programs that a SAMP hub connects, such as TOPCAT and Aladin. */
export function useSending(): (path: string) => Promise<void> {
  const { fail, tell } = useShared();
  return async (path) => {
    try {
      const { receivers } = await post<{ receivers: string[] }>(`api/samp/${path}`);
      tell(`sent to ${receivers.join(", ")}`);
    } catch (error) {
      fail(error);
    }
  };
}
