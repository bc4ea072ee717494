import type { Place } from "./place";

export function MapView(_: Place) {
  return <div class="view" />;
}
