// parallel
