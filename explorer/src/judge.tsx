import { useEffect, useRef, useState } from "preact/hooks";
import type { Galaxy } from "./api";
import { Details } from "./details";
import { drawn, Grid, lookFrom } from "./grid";
import { useFetched, useKey, useMapKey, useShared } from "./hooks";
import { askOf, changed, go, type Place } from "./place";

/** Judge one galaxy after the other, by keys or by clicks. */
export function Judge({ params }: Place) {
  const { meta, keys, judge, undo, progress } = useShared();
  const look = lookFrom(params);
  const isOffer = !params.has("start");
  // The round is part of the address of an offer, so that a new round is another list.
  const path = isOffer ? `api/offers?k=${params.get("k") ?? 20}` : `api/galaxies?${askOf(params)}`;
  const { value, error } = useFetched<{ galaxies: Galaxy[] }>(path, Number(params.get("round") ?? 0));
  const galaxies = value?.galaxies ?? [];
  const [given, setGiven] = useState<Map<string, string>>(new Map());
  const judged = (galaxy: Galaxy) => given.has(galaxy.id) || galaxy.marks[meta.who] !== undefined;
  const at = galaxies.find((galaxy) => galaxy.id === params.get("at")) ?? galaxies.find((galaxy) => !judged(galaxy));
  const done = galaxies.filter(judged).length;
  const seen = useRef({ id: "", since: 0 }); // the galaxy whose image is on the screen
  const waiting = useRef(0); // marks and undos that are not answered
  const latest = useRef<URLSearchParams | null>(null); // null once the view is left
  latest.current = params;
  useEffect(() => () => void (latest.current = null), []);
  useEffect(() => setGiven(new Map()), [value]);
  const onShown = (id: string) => {
    seen.current = { id, since: performance.now() };
    const next = galaxies[galaxies.findIndex((galaxy) => galaxy.id === id) + 1];
    if (next) new Image().src = `api/image.png?v=${meta.digest}&${drawn(look)}&id=${next.id}`;
  };

  const show = (galaxy: Galaxy | undefined) => {
    if (latest.current) go("judge", changed(latest.current, { at: galaxy?.id ?? null }), true);
  };
  const mark = async (label: string) => {
    if (!at || waiting.current || seen.current.id !== at.id) return;
    waiting.current += 1;
    if (await judge(at, label, Math.round(performance.now() - seen.current.since))) {
      setGiven((old) => new Map(old).set(at.id, label));
      const place = galaxies.indexOf(at);
      const left = [...galaxies.slice(place + 1), ...galaxies.slice(0, place)].filter((galaxy) => !judged(galaxy));
      show(left[0]);
    }
    waiting.current -= 1;
  };
  const back = async () => {
    waiting.current += 1;
    const id = await undo();
    waiting.current -= 1;
    if (!id) return;
    setGiven((old) => new Map([...old].filter(([other]) => other !== id)));
    const galaxy = galaxies.find((one) => one.id === id);
    if (galaxy) {
      delete galaxy.marks[meta.who];
      show(galaxy);
    }
  };
  const step = (by: number) => at && show(galaxies[(galaxies.indexOf(at) + by + galaxies.length) % galaxies.length]);
  useMapKey("judge", params);
  useKey((key) => {
    const label = keys.get(key);
    if (label) void mark(label);
    else if (key === "z") void back();
    else if (key === " " || key === "ArrowRight") step(1);
    else if (key === "ArrowLeft") step(-1);
    else return false;
    return true;
  });
  const shown = galaxies.map((galaxy) => {
    const label = given.get(galaxy.id);
    const own = label ?? galaxy.marks[meta.who];
    return { ...galaxy, marks: own ? { [meta.who]: own } : {} };
  });
  return (
    <div class="view">
      <div class="columns-of-view judging">
        <Details id={at?.id ?? null} look={look} blind onShown={onShown}>
          <div class="answers" onKeyDown={(event) => event.repeat && event.preventDefault()}>
            {meta.labels.map((label, place) => (
              <button key={label} class={kindOf(label, meta)} disabled={!at} onClick={() => void mark(label)}>
                {label} <kbd>{letterOf(keys, label) ?? place + 1}</kbd>
              </button>
            ))}
            <button class="quiet" onClick={() => void back()}>
              undo <kbd>z</kbd>
            </button>
            <button class="quiet" disabled={!at} onClick={() => step(1)}>
              skip <kbd>space</kbd>
            </button>
          </div>
        </Details>
        <section class="list">
          <p class="heading">
            {error ? <span class="fault">{error.message}</span> : value ? `${done} of ${galaxies.length} judged in this list` : " "}{" "}
            <em>{progress ? `${progress.judged} in all, ${progress.positives} of them positive` : ""}</em>
          </p>
          <progress value={done} max={Math.max(galaxies.length, 1)} />
          {!at && galaxies.length > 0 && (
            <p class="finished">
              All {galaxies.length} are judged.{" "}
              {isOffer && (
                <button onClick={() => go("judge", changed(params, { at: null, round: String(Number(params.get("round") ?? 0) + 1) }))}>
                  Offer more
                </button>
              )}
              <button onClick={() => go("rank", new URLSearchParams())}>See the ranking</button>
            </p>
          )}
          <Grid
            galaxies={shown}
            look={look}
            judging
            roles={new Map(at ? [[at.id, "like"]] : [])}
            onPick={(galaxy) => show(galaxy)}
          />
        </section>
      </div>
    </div>
  );
}

function kindOf(label: string, meta: { positives: string[]; negative: string }): string {
  return meta.positives.includes(label) ? "yes" : label === meta.negative ? "no" : "unsure";
}

function letterOf(keys: Map<string, string>, label: string): string | undefined {
  return [...keys].find(([key, value]) => value === label && /[a-z]/.test(key))?.[0];
}
