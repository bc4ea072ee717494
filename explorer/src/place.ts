// The address is the state: `#search?start=similar&like=42`. Every view can be copied, reloaded and gone back to.
import { useLayoutEffect, useState } from "preact/hooks";

export type Tab = "search" | "judge" | "rank" | "map";
const TABS: Tab[] = ["search", "judge", "rank", "map"];

export interface Place {
  tab: Tab;
  params: URLSearchParams;
}

export function readPlace(hash: string): Place {
  const [name = "", query = ""] = hash.replace(/^#/, "").split("?", 2);
  const tab = TABS.find((known) => known === name) ?? "search";
  return { tab, params: new URLSearchParams(query) };
}

export function addressOf(tab: Tab, params: URLSearchParams): string {
  const query = params.toString();
  return `#${tab}${query ? `?${query}` : ""}`;
}

export function go(tab: Tab, params: URLSearchParams, replace = false): void {
  const address = addressOf(tab, params);
  if (replace) {
    history.replaceState(null, "", address);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = address;
  }
}

export function usePlace(): Place {
  const [place, setPlace] = useState(() => readPlace(location.hash));
  // An address that changes between the first drawing and an ordinary effect would be missed.
  useLayoutEffect(() => {
    const changed = () => setPlace(readPlace(location.hash));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return place;
}

// What the server needs to find the galaxies of a place; how they are drawn stays behind.
const OF_THE_LIST = ["start", "like", "unlike", "upload", "debris_weight", "k", "offset", "seed", "label", "polygon"];

export function askOf(params: URLSearchParams): URLSearchParams {
  const ask = new URLSearchParams();
  for (const [name, value] of params) if (OF_THE_LIST.includes(name)) ask.append(name, value);
  return ask;
}

export function changed(params: URLSearchParams, changes: Record<string, string | string[] | null>): URLSearchParams {
  const next = new URLSearchParams(params);
  for (const [name, value] of Object.entries(changes)) {
    next.delete(name);
    if (value !== null) for (const one of [value].flat()) next.append(name, one);
  }
  return next;
}

// How pictures are drawn is kept from one list to the next.
const OF_THE_LOOK = ["stretch", "bands", "map", "debris_weight", "k"];

export function lookOf(params: URLSearchParams): URLSearchParams {
  const look = new URLSearchParams();
  for (const [name, value] of params) if (OF_THE_LOOK.includes(name)) look.append(name, value);
  return look;
}
