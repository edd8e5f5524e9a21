// The cells of recurrent networks, simple, LSTM and GRU, forward and backward: one step of one example, for units that
// fill a vector.
//
// - forward: from the projected input in `gates` and from the product h U in `inner`, the activated gates in `gates`,
//   in `kept` what backward needs beside them, and the next state.
// - backward: from what forward left, from the state before and from the gradient of the state after, the gradients of
//   the projected input in `gates` and of h U in `inner`, and the part of the gradient of the state before that does
//   not come by way of h U.
#pragma once

#include "functions.h"

namespace lamina {

// What goes from step to step, and the gradients of it.
struct State {
  Vector h{}, c{};
};

struct SimpleCell {
  static constexpr int GATES = 1;
  static constexpr bool HAS_C = false, KEEPS = false;
  static constexpr bool SPLITS = false;  // whether the last gate has another gradient for h U than for the input

  static State forward(Vector* gates, const Vector* inner, State, Vector&) {
    gates[0] = tanh(gates[0] + inner[0]);
    return {gates[0]};
  }

  static State backward(Vector* gates, Vector* inner, Vector, State, State gradient) {
    gates[0] = inner[0] = gradient.h * (1.0f - gates[0] * gates[0]);
    return {};
  }
};

struct LstmCell {
  static constexpr int GATES = 4;
  static constexpr bool HAS_C = true, KEEPS = true, SPLITS = false;  // keeps c

  static State forward(Vector* gates, const Vector* inner, State before, Vector& kept) {
    Vector i = sigmoid(gates[0] + inner[0]), f = sigmoid(gates[1] + inner[1]);
    Vector g = tanh(gates[2] + inner[2]), o = sigmoid(gates[3] + inner[3]);
    gates[0] = i, gates[1] = f, gates[2] = g, gates[3] = o;
    kept = f * before.c + i * g;
    return {o * tanh(kept), kept};
  }

  static State backward(Vector* gates, Vector* inner, Vector kept, State before, State gradient) {
    Vector i = gates[0], f = gates[1], g = gates[2], o = gates[3], shown = tanh(kept);
    Vector c = gradient.c + gradient.h * o * (1.0f - shown * shown);
    gates[0] = inner[0] = c * g * i * (1.0f - i);
    gates[1] = inner[1] = c * before.c * f * (1.0f - f);
    gates[2] = inner[2] = c * i * (1.0f - g * g);
    gates[3] = inner[3] = gradient.h * shown * o * (1.0f - o);
    return {Vector{}, c * f};
  }
};

// With the reset gate after the product.
struct GruCell {
  static constexpr int GATES = 3;
  static constexpr bool HAS_C = false, KEEPS = true, SPLITS = true;  // keeps the candidate's part of h U

  static State forward(Vector* gates, const Vector* inner, State before, Vector& kept) {
    Vector z = sigmoid(gates[0] + inner[0]), r = sigmoid(gates[1] + inner[1]);
    kept = inner[2];
    Vector candidate = tanh(gates[2] + r * kept);
    gates[0] = z, gates[1] = r, gates[2] = candidate;
    return {z * before.h + (1.0f - z) * candidate};
  }

  static State backward(Vector* gates, Vector* inner, Vector kept, State before, State gradient) {
    Vector z = gates[0], r = gates[1], candidate = gates[2];
    gates[0] = inner[0] = gradient.h * (before.h - candidate) * z * (1.0f - z);
    gates[2] = gradient.h * (1.0f - z) * (1.0f - candidate * candidate);
    gates[1] = inner[1] = gates[2] * kept * r * (1.0f - r);
    inner[2] = gates[2] * r;
    return {gradient.h * z};
  }
};

}  // namespace lamina
